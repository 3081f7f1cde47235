"""Learning rate schedules by name: the hyperparameter `lr_schedule`, on torch's schedulers.

    lr_schedule: {name: step, step_size: 2, gamma: 0.7}

The options beside `name` are those of torch's scheduler, and `per` says after what it is stepped: epoch (the default),
batch or optimizer_step. Whole numbers such as `step_size` count these.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, final

from torch.optim import Optimizer, lr_scheduler

from mnist_trials.errors import TrialError
from mnist_trials.training.registry import Registry
from mnist_trials.training.schedule import LRSchedule


@final
@dataclass(frozen=True, slots=True)
class Kind:
    """A scheduler of torch and the options it takes here."""

    scheduler: type[lr_scheduler.LRScheduler]
    options: tuple[str, ...]


_WHOLE: Final = ("step_size", "total_iters", "T_max", "T_0", "T_mult")

SCHEDULES: Final[Registry[Kind | None]] = Registry(
    "learning rate schedule",
    {
        "constant": None,
        "step": Kind(lr_scheduler.StepLR, ("step_size", "gamma")),
        "multistep": Kind(lr_scheduler.MultiStepLR, ("milestones", "gamma")),
        "exponential": Kind(lr_scheduler.ExponentialLR, ("gamma",)),
        "linear": Kind(lr_scheduler.LinearLR, ("start_factor", "end_factor", "total_iters")),
        "polynomial": Kind(lr_scheduler.PolynomialLR, ("total_iters", "power")),
        "cosine": Kind(lr_scheduler.CosineAnnealingLR, ("T_max", "eta_min")),
        "cosine_restarts": Kind(lr_scheduler.CosineAnnealingWarmRestarts, ("T_0", "T_mult", "eta_min")),
    },
)
"""Schedules that `lr_schedule.name` may name; constant is no schedule at all."""


def schedule_from_hparams(optimizer: Optimizer, hparams: Mapping[str, Any]) -> LRSchedule | None:
    """The schedule that the hyperparameter `lr_schedule` describes; None without one.

    Raises:
        TrialError: the name is unknown, an option does not exist, or torch refuses a value.
    """
    described = hparams.get("lr_schedule")
    if described is None:
        return None
    if isinstance(described, str):
        described = {"name": described}
    if not isinstance(described, Mapping) or "name" not in described:
        raise TrialError(f"The hyperparameter lr_schedule is a name or a map with `name`, not {described!r}.")
    options = dict(described)
    name, per = options.pop("name"), options.pop("per", "epoch")
    kind = SCHEDULES[name]
    _refuse_unknown(name, options, kind.options if kind else ())
    _refuse_values(name, options)
    if kind is None:
        return None
    try:
        return LRSchedule(kind.scheduler(optimizer, **options), per=per)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise TrialError(f"The learning rate schedule '{name}' refuses its options: {error}.") from error


def _refuse_unknown(name: str, options: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for option in options:
        if option not in known:
            near = difflib.get_close_matches(option, known, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise TrialError(
                f"The learning rate schedule '{name}' has no option '{option}'.{hint} It takes: "
                f"{', '.join((*known, 'per'))}."
            )


def _refuse_values(name: str, options: Mapping[str, Any]) -> None:
    """Check the kinds of the values; torch itself notices some of them only when it steps."""
    for option, value in options.items():
        if option == "milestones":
            good, kind = isinstance(value, list) and all(_is_whole(entry) for entry in value), "a list of whole numbers"
        elif option in _WHOLE:
            good, kind = _is_whole(value), "a whole number of at least 1"
        else:
            good, kind = isinstance(value, int | float) and not isinstance(value, bool), "a number"
        if not good:
            raise TrialError(f"'{option}' of the learning rate schedule '{name}' is {kind}, not {value!r}.")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
