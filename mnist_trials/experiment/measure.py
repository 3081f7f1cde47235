"""How far a trial is, in the searcher's unit."""

from __future__ import annotations

import math
from typing import final

from mnist_trials.config import ExperimentConfig
from mnist_trials.events import MetricsReported, ProgressReported, ValidationCompleted
from mnist_trials.units import Epoch, Record, Unit

_ROUNDING = 1e-6  # epochs are fractions, and these are not exact


@final
class Measure:
    """Measures trials in the unit of `searcher.max_length` (batches where there is none), or by `time_metric`."""

    def __init__(self, config: ExperimentConfig) -> None:
        settings = config.searcher.settings
        self._length: Unit | None = config.searcher.max_length
        self._longest: int | None = settings.get("max_time")
        self.time_metric: str | None = None if self._longest is None else settings.get("time_metric")

    @property
    def by_time(self) -> bool:
        """Whether it is a metric that tells how far a trial is; workers cannot train exactly so far then."""
        return self._longest is not None

    def units(self, event: ValidationCompleted) -> int | None:
        """How far the trial is, a part of a unit not counted; None where the time metric is missing or not finite."""
        if self._longest is None:
            return math.floor(self._of(event) + _ROUNDING)
        time = None if self.time_metric is None else event.metrics.get(self.time_metric)
        return None if time is None else max(math.floor(time), 0)

    def is_out_of_time(self, units: int) -> bool:
        """Whether a trial has had all of `searcher.max_time`."""
        return self._longest is not None and units >= self._longest

    def is_too_long(self, event: ProgressReported | MetricsReported | ValidationCompleted) -> bool:
        """Whether a trial has trained beyond `searcher.max_length`, as a command can that sets a length of its own."""
        return self._length is not None and self._of(event) > self._length.value + _ROUNDING

    def _of(self, event: ProgressReported | MetricsReported | ValidationCompleted) -> float:
        if isinstance(self._length, Epoch):
            return event.epochs
        return event.records if isinstance(self._length, Record) else event.batches
