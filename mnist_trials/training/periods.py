"""When something is due: periods and explicit points, in batches, epochs or records."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import asdict, dataclass
from typing import Any, final

from mnist_trials.units import Batch, Epoch, Record, Schedule, Unit


@final
@dataclass(slots=True)
class Position:
    """How far training is."""

    batches: int = 0
    records: int = 0
    epochs: int = 0  # complete ones
    batch_in_epoch: int = 0
    steps_before_epoch: int = 0  # optimizer steps before the current one
    reported: int = 0  # batches in the reporting periods that have ended

    def value(self, unit: type[Unit]) -> int:
        """The position counted in `unit`."""
        if unit is Batch:
            return self.batches
        return self.epochs if unit is Epoch else self.records

    def advance(self, batches: int, records: int) -> None:
        """So many more were trained, all of the current epoch."""
        self.batches += batches
        self.batch_in_epoch += batches
        self.records += records

    def reached(self, length: Unit) -> bool:
        """Whether `length` has been trained."""
        return self.value(type(length)) >= length.value

    def state_dict(self) -> dict[str, Any]:
        """As a checkpoint keeps it."""
        return asdict(self)


def batches_before(position: Position, unit: type[Unit], target: int, largest_batch: int | None) -> int | None:
    """How many batches can be trained at least until `target` is reached (1 or more); None: not before an epoch ends.

    `largest_batch` is the number of records that no batch exceeds, if that is known.
    """
    if unit is Epoch:
        return None
    left = target - position.value(unit)
    if unit is Record:
        left = -(-left // largest_batch) if largest_batch else 1
    return max(left, 1)


@final
class Due:
    """Tells each time that a next point of one of its schedules is reached. None is never due.

    A point that lies inside a batch (of records) is reached when that batch is done. Made at a position, it is due for
    what comes after it.
    """

    def __init__(self, position: Position, *schedules: Schedule | None) -> None:
        self._periods: list[Unit] = []
        self._points: dict[type[Unit], list[int]] = {}  # not reached yet, the next one last
        for schedule in schedules:
            if isinstance(schedule, Unit):
                self._periods.append(schedule)
            else:
                for point in schedule or ():
                    self._points.setdefault(type(point), []).append(point.value)
        for unit, values in self._points.items():
            values.sort()
            del values[: bisect_right(values, position.value(unit))]
            values.reverse()
        self._next = [_after(period, position) for period in self._periods]

    def arrive(self, position: Position) -> bool:
        """Whether a point was reached since the last call."""
        due = False
        for unit, values in self._points.items():
            while values and values[-1] <= position.value(unit):
                values.pop()
                due = True
        for index, period in enumerate(self._periods):
            if position.value(type(period)) >= self._next[index]:
                self._next[index] = _after(period, position)
                due = True
        return due

    def batches_before(self, position: Position, largest_batch: int | None) -> int | None:
        """The least number of batches until it may be due; None: not before an epoch ends, or never."""
        targets = [(unit, values[-1]) for unit, values in self._points.items() if values]
        targets += [(type(period), value) for period, value in zip(self._periods, self._next, strict=True)]
        counts = [batches_before(position, unit, target, largest_batch) for unit, target in targets]
        return min((count for count in counts if count is not None), default=None)


def _after(period: Unit, position: Position) -> int:
    """The next multiple of `period`."""
    return (position.value(type(period)) // period.value + 1) * period.value
