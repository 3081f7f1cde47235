"""The learning rates of a portion of batches, as inputs of the program that trains it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import numpy as np

from mnist_trials_plugins.backends._jax.optimizers import Optimizer


@final
class Rates:
    """What an optimizer's schedule says; nothing that matters where a trial's own optimizer has its rate within."""

    def __init__(self, optimizer: Optimizer) -> None:
        self._base = 0.0 if optimizer.rate is None else optimizer.rate
        self._schedule = optimizer.schedule
        self._epoch = 0  # of the last batch
        self._batch = 0

    def plan(self, epoch: int, first: int, count: int, length: int, steps: int) -> dict[str, Any]:
        """Of a plan "rates" and "steps" (see `Programs.train`) for `count` batches from `first` on."""
        self._epoch, self._batch = epoch, first + count - 1
        per = None if self._schedule is None else self._schedule.per
        rates = [self._at(epoch, first + index, steps + index) for index in range(length if per else 1)]
        return {
            "rates": np.full(length, rates, np.float32) if len(rates) == 1 else np.array(rates, np.float32),
            "steps": np.int32(steps if per == "optimizer_step" else -1),
        }

    def state_dict(self) -> dict[str, int]:
        """Which batch was the last one: the update of a group that it left open has its rate."""
        return {"epoch": self._epoch, "batch": self._batch}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on from what `state_dict` gave."""
        self._epoch, self._batch = state["epoch"], state["batch"]

    def of_last_batch(self, steps: int) -> Any:
        """The rate of an update that ends a group after the last batch, `steps` updates having been made."""
        return np.float32(self._at(self._epoch, self._batch, steps))

    def _at(self, epoch: int, batch: int, step: int) -> float:
        schedule = self._schedule
        if schedule is None:
            return self._base
        counted = {"epoch": epoch, "batch": batch, "optimizer_step": step}[schedule.per]
        return schedule.curve(self._base, counted)
