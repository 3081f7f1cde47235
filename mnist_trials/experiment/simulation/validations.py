"""Where the trials of a simulation are validated, and how long they are, in the searcher's unit."""

from __future__ import annotations

from bisect import bisect_right
from typing import final

from mnist_trials.config import ExperimentConfig
from mnist_trials.errors import UsageError
from mnist_trials.units import Unit


def searcher_unit(config: ExperimentConfig) -> tuple[str, int | None]:
    """The name of the searcher's unit, and how many of it a trial trains for if nobody ends it; None: not told."""
    searcher = config.searcher
    if (most := searcher.settings.get("max_time")) is not None:
        return searcher.settings["time_metric"], most
    length = searcher.max_length
    return ("batches", None) if length is None else (length.key, length.value)


@final
class Validations:
    """The points at which trials of one config are validated."""

    def __init__(self, config: ExperimentConfig) -> None:
        unit, self.length = searcher_unit(config)
        self._period: int | None = None
        self._points: tuple[int, ...] = ()
        schedule = config.min_validation_period
        if isinstance(schedule, Unit):
            self._period = schedule.value if schedule.key == unit else None
        elif schedule is not None:
            self._points = tuple(point.value for point in schedule if point.key == unit)

    def points(self, asked: tuple[int, ...]) -> tuple[int, ...]:
        """The single points of a trial for which the searcher has `asked` for these, rising."""
        return tuple(sorted({*self._points, *asked})) if self._points else asked

    def goal(self, until: int | None) -> int:
        """How far a trial trains that may train `until` there (None: to the end).

        Raises:
            UsageError: there is no end to it.
        """
        if self.length is None and until is None:
            raise UsageError(
                "The config does not tell how long a trial trains. Give searcher.max_length, such as "
                "max_length: {epochs: 1}."
            )
        return min(length for length in (self.length, until) if length is not None)

    def next(self, points: tuple[int, ...], units: int, until: int | None) -> int:
        """Where a trial that has `units`, and single `points`, is validated next: at its goal at the latest."""
        found = self.goal(until)
        index = bisect_right(points, units)
        if index < len(points):
            found = min(found, points[index])
        if self._period is not None:
            found = min(found, (units // self._period + 1) * self._period)
        return found
