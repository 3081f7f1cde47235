"""What a trial's methods return while they are traced, checked; and errors of tracing in the user's terms."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, Final, final

import jax
import jax.numpy as jnp
import numpy as np
import torch

from mnist_trials.errors import TrialError
from mnist_trials_plugins.backends._jax.arrays import is_array, is_float

_OURS: Final = str(Path(__file__).parent)


@final
@dataclass(frozen=True, slots=True)
class Values:
    """Metrics of a batch: traced scalars, float32, by name; and the weights of those that have one of their own."""

    scalars: dict[str, Any]
    weights: dict[str, float]


def training_values(result: object) -> Values:
    """The metrics that `train_batch` returned, the loss among them.

    Raises:
        TrialError: there is no loss, or a metric is none of those allowed.
    """
    if is_array(result) or _is_weighted(result):
        result = {"loss": result}
    if not isinstance(result, Mapping):
        returned = "nothing (is a `return` missing?)" if result is None else _described(result)
        raise TrialError(
            f"train_batch must return the loss, or a dict of metrics with the loss as 'loss'; it returned {returned}."
        )
    if "loss" not in result:
        raise TrialError(
            "The dict that train_batch returned has no 'loss'. It has: "
            f"{', '.join(map(str, result)) or 'nothing'}. (On the backend 'jax' the runtime makes every update itself.)"
        )
    given = result["loss"]
    loss = given.value if _is_weighted(given) else given
    if not is_array(loss) or loss.size != 1 or not is_float(loss):
        raise TrialError(
            f"The loss must be a single floating-point number computed with jax; train_batch returned "
            f"{_described(loss)}. Is a .mean() missing?"
        )
    return _values(result, "train_batch")


def validation_values(result: object) -> Values:
    """The metrics that `evaluate_batch` returned.

    Raises:
        TrialError: there are none, or one is none of those allowed.
    """
    if isinstance(result, Mapping) and result:
        return _values(result, "evaluate_batch")
    raise TrialError(
        "evaluate_batch must return a dict of metrics by name, such as {'validation_loss': loss}; it returned "
        f"{'an empty one' if isinstance(result, Mapping) else type(result).__name__}."
    )


def _values(result: Mapping[Any, Any], method: str) -> Values:
    scalars: dict[str, Any] = {}
    weights: dict[str, float] = {}
    for name, value in result.items():
        if not isinstance(name, str):
            raise TrialError(f"{method} returned a metric named {name!r}; names of metrics are text.")
        if _is_weighted(value):
            weights[name] = value.weight
        scalars[name] = _scalar(name, value.value if name in weights else value, method)
    return Values(scalars, weights)


def _scalar(name: str, value: Any, method: str) -> Any:
    if isinstance(value, Real) or (is_array(value) and value.size == 1):
        return jnp.asarray(value, np.float32).reshape(())
    torchmetrics = sys.modules.get("torchmetrics")
    if torchmetrics is not None and isinstance(value, torchmetrics.Metric):
        raise TrialError(
            f"{method} returned a torchmetrics object as the metric '{name}'. Its update would run once, while the "
            "step is compiled, and not for each batch: on the backend 'jax', compute the value with jax.numpy."
        )
    raise TrialError(
        f"{method} returned {_described(value)} as the metric '{name}'. On the backend 'jax' a metric is a number, a "
        "jax array with one element, or mt.weighted(value, weight)."
    )


def _is_weighted(value: Any) -> bool:
    return hasattr(value, "value") and hasattr(value, "weight")  # mt.weighted made it


def _described(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"a torch tensor of shape {tuple(value.shape)}"
    return f"an array of shape {value.shape} and type {value.dtype}" if is_array(value) else repr(value)


@contextmanager
def explained(method: str) -> Iterator[None]:
    """Tell errors that only tracing makes in terms of what the user wrote.

    Raises:
        TrialError: `method` did what cannot be traced; the text says where and what to do.
    """
    try:
        yield
    except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError) as error:
        raise TrialError(
            f"{method} asks for the value of an array{_where(error)}, but it is compiled: it runs once with stand-ins "
            "for arrays, epoch_idx and batch_idx, and has no values yet. Use jax.numpy throughout (jnp.where in place "
            "of `if`, no float(), int(), .item(), numpy or torch); the weight of mt.weighted must be a number that is "
            "known without the values of the batch."
        ) from error
    except jax.errors.UnexpectedTracerError as error:
        raise TrialError(
            f"{method} uses an array that was computed in another batch{_where(error)}. It is compiled, so what it "
            "keeps in `self` are stand-ins without values: return what is to be kept as a metric."
        ) from error


def _where(error: BaseException) -> str:
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "site-packages" not in frame.filename and not frame.filename.startswith(_OURS)
    ]
    users = [frame for frame in frames if f"{Path('mnist_trials', 'training')}" not in frame.filename]
    if not users:
        return ""
    last = users[-1]
    return f" ({Path(last.filename).name}:{last.lineno}: {last.line})" if last.line else ""
