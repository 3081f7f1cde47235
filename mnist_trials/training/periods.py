"""When something is due: periods and explicit points, in batches, epochs or records."""

from __future__ import annotations

from collections.abc import Sequence
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
    """Tells each time that a schedule's next point is reached. None is never due.

    A point that lies inside a batch (of records) is reached when that batch is done. Made at a position, it is due for
    what comes after it.
    """

    def __init__(self, schedule: Schedule | None, position: Position) -> None:
        self._period = schedule if isinstance(schedule, Unit) else None
        points: Sequence[Unit] = () if schedule is None or isinstance(schedule, Unit) else schedule
        self._points = [point for point in points if not position.reached(point)]
        self._next = self._after(position)

    def _after(self, position: Position) -> int:
        if self._period is None:
            return 0
        return (position.value(type(self._period)) // self._period.value + 1) * self._period.value

    def arrive(self, position: Position) -> bool:
        """Whether a point was reached since the last call."""
        left = [point for point in self._points if not position.reached(point)]
        due = len(left) < len(self._points)
        self._points = left
        if self._period is not None and position.value(type(self._period)) >= self._next:
            self._next = self._after(position)
            due = True
        return due

    def batches_before(self, position: Position, largest_batch: int | None) -> int | None:
        """The least number of batches until it may be due; None: not before an epoch ends, or never."""
        targets = [(type(point), point.value) for point in self._points]
        if self._period is not None:
            targets.append((type(self._period), self._next))
        counts = [batches_before(position, unit, target, largest_batch) for unit, target in targets]
        return min((count for count in counts if count is not None), default=None)
