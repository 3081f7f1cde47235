"""Short batches: filled up to the size of the others where each sample can be computed by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, final

import jax

from mnist_trials.errors import TrialError
from mnist_trials_plugins.backends._jax.arrays import HostBatch, RowsBatch
from mnist_trials_plugins.backends._jax.networks import Weights
from mnist_trials_plugins.backends._jax.placement import Placement
from mnist_trials_plugins.backends._jax.programs import Programs
from mnist_trials_plugins.backends._jax.sources import filled_up, size_of, source_of

_TOLERANCE: Final = 1e-3
"""How far the value of a batch may be from the mean over its samples, relative to it or to 1: bfloat16 rounds so."""


@final
class ShortBatches:
    """Decides once for training and once for validations whether short batches can be filled up.

    A batch is then computed sample by sample, and what fills it up is left out of the means. That is the same only
    where a metric is a mean over samples that know nothing of each other; the first short batch is tried both ways.
    Where it is not the same, short batches have a program of their own shape.
    """

    def __init__(self, programs: Programs, placement: Placement, notice: Callable[[str], None]) -> None:
        self._programs = programs
        self._placement = placement
        self._notice = notice
        self._refused: dict[bool, str | None] = {}

    def filled(
        self, batch: HostBatch | RowsBatch, size: int, weights: Weights, key: Any, *, training: bool
    ) -> HostBatch | RowsBatch | None:
        """`batch` with `size` samples; None where it cannot be filled up."""
        if training not in self._refused:
            reason = self._refused[training] = self._why_not(batch, size, weights, key, training)
            if reason is not None:
                self._notice(
                    f"A short {'training' if training else 'validation'} batch of {size_of(batch)} samples cannot be "
                    f"filled up to {size}: {reason}. Batches of other sizes each have a program of their own."
                )
        return None if self._refused[training] is not None else filled_up(batch, size)

    def _why_not(
        self, batch: HostBatch | RowsBatch, size: int, weights: Weights, key: Any, training: bool
    ) -> str | None:
        method = "train_batch" if training else "evaluate_batch"
        if training and len(weights) > 1:
            kept = ", ".join(name for name in weights if name != "params")
            return f"the model keeps {kept}, which depend on the batch as a whole"
        if filled_up(batch, size) is None:
            return "not every array of it has one entry per sample"
        apart = jax.jit(self._programs.apart, static_argnames="training")
        try:
            gap = float(apart(weights, source_of([batch], 1, self._placement), key, training=training))
        except TrialError:
            raise
        except Exception as error:  # whatever the user's code raises on a batch of one sample
            return f"{method} cannot be computed for each sample by itself ({type(error).__name__}: {_line(error)})"
        if self._programs.own_weights[method, size_of(batch)]:
            return f"{method} gives metrics a weight of their own"
        if not gap <= _TOLERANCE:
            return f"what {method} returns is not the mean over the samples, each computed by itself"
        return None


def _line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200]
