"""What the hyperparameters say of updates, whatever makes them: the optimizer, groups of batches, clipping."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from mnist_trials.errors import TrialError

OPTIMIZER_OPTIONS: Final = (
    "momentum",
    "dampening",
    "nesterov",
    "weight_decay",
    "betas",
    "eps",
    "rho",
    "amsgrad",
    "centered",
)
"""Hyperparameters that say more of an optimizer; each is handed to it as it is, where it takes it."""


def optimizer_options(hparams: Mapping[str, Any], known: Iterable[str], *, build: str) -> dict[str, Any]:
    """Those of OPTIMIZER_OPTIONS that are given, beside the hyperparameters `optimizer` and `learning_rate`.

    `known` are the names that `optimizer` may be, `build` is what build_optimizer could return in their place.

    Raises:
        TrialError: one of the two is missing.
    """
    absent = [name for name in ("optimizer", "learning_rate") if hparams.get(name) is None]
    if absent:
        raise TrialError(
            "The trial does not override build_optimizer(model), and the hyperparameters do not say which optimizer "
            f"to use: {' and '.join(absent)} missing. Return {build} from build_optimizer, or give `optimizer` "
            f"(one of: {', '.join(known)}) and `learning_rate`."
        )
    return {option: hparams[option] for option in OPTIMIZER_OPTIONS if hparams.get(option) is not None}


def refuse_other_options(optimizer: str, options: Mapping[str, Any], taken: Collection[str]) -> None:
    """See that `optimizer`, as a person calls it, takes all `options`.

    Raises:
        TrialError: it does not; the text names those that it takes.
    """
    if refused := [option for option in options if option not in taken]:
        allowed = ", ".join(option for option in OPTIMIZER_OPTIONS if option in taken)
        raise TrialError(f"The optimizer {optimizer} takes no {' and no '.join(refused)}. It takes: {allowed}.")


def aggregation_frequency(hparams: Mapping[str, Any]) -> int:
    """Batches whose gradients make one update: the hyperparameter `aggregation_frequency`.

    Raises:
        TrialError: it is out of range.
    """
    value = hparams.get("aggregation_frequency", 1)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise TrialError(
            f"The hyperparameter 'aggregation_frequency' must be a whole number of at least 1, not {value!r}."
        )
    return value


def gradient_limits(hparams: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """The hyperparameters `max_gradient_value` and `max_gradient_norm`.

    Raises:
        TrialError: one of them is out of range.
    """
    return _positive(hparams, "max_gradient_value"), _positive(hparams, "max_gradient_norm")


def _positive(hparams: Mapping[str, Any], name: str) -> float | None:
    value = hparams.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise TrialError(f"The hyperparameter '{name}' must be a number above 0, not {value!r}.")
    return float(value)
