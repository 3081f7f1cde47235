"""What to tell a person where a searcher judges a trial and the script's own validation period has no validation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mnist_trials.training.data.stream import Stream
from mnist_trials.training.periods import Position
from mnist_trials.training.settings import FitSettings
from mnist_trials.units import Batch, Record, Schedule, Unit

_NAMED = 4  # points that a sentence names

_Count = Callable[[Unit], int | None]


def missed_points(settings: FitSettings, stream: Stream, position: Position, until: Unit | None) -> str | None:
    """The points between `position` and `until` (None: the end) without a validation, and where it comes instead.

    There is one at `until` and at the end in any case. None where no point is missed.
    """
    schedule, end = settings.validation_period, settings.max_length
    if not settings.own_validation_period or schedule is None or end is None:
        return None
    points = [
        point
        for point in settings.validate_at
        if not position.reached(point) and (until is None or point.value < until.value)
    ]
    periods = [schedule] if isinstance(schedule, Unit) else list(schedule)
    ends = [end] if until is None else [end, until]
    count, unit = _comparable([*points, *periods, *ends], stream)
    if count is None:
        return _unknown(points, schedule) if points else None
    missed = [(point, at) for point in points if (at := _validated_late(count, stream, point, schedule, ends))]
    return _sentence(missed, unit, schedule) if missed else None


def _comparable(lengths: Sequence[Unit], stream: Stream) -> tuple[_Count | None, type[Unit]]:
    """How to count them all in one unit: in batches where that is known before, else in the unit that all share."""
    if all(stream.batches_until(length) is not None for length in lengths):
        return stream.batches_until, Batch
    if len({type(length) for length in lengths}) == 1:
        return (lambda length: length.value), type(lengths[0])
    return None, Batch


def _validated_late(count: _Count, stream: Stream, point: Unit, schedule: Schedule, ends: Sequence[Unit]) -> int | None:
    """Where the first validation after `point` is; None where there is one at it, or where it is never reached."""
    start = count(point)
    last = min(at for end in ends if (at := count(end)) is not None)
    assert start is not None
    if start >= last:
        return None
    if isinstance(schedule, Unit):
        found = [_multiple_from(count, stream, start, schedule)]
    else:
        found = [at for listed in schedule if (at := count(listed)) is not None and at >= start]
    at = min([*found, last])
    return None if at == start else at


def _multiple_from(count: _Count, stream: Stream, start: int, period: Unit) -> int:
    """The first multiple of `period` at or after `start`."""
    if isinstance(period, Record) and (before := stream.records_after(start - 1)) is not None:
        at = stream.batches_until(Record((before // period.value + 1) * period.value))
        assert at is not None
        return at
    step = count(period)
    assert step is not None
    return -(-start // step) * step


def _sentence(missed: Sequence[tuple[Unit, int]], unit: type[Unit], schedule: Schedule) -> str:
    listed = [f"{point.value:,} {point.key} (judged at {at:,} {unit.key})" for point, at in missed[:_NAMED]]
    more = len(missed) - len(listed)
    return (
        f"The searcher judges this trial at points where a validation_period of {_spoken(schedule)} has no validation: "
        f"{', '.join(listed)}{f' and {more} more' if more else ''}. Leave validation_period out of fit() to have it "
        "validated exactly there."
    )


def _unknown(points: Sequence[Unit], schedule: Schedule) -> str:
    listed = [f"{point.value:,} {point.key}" for point in points[:_NAMED]]
    more = len(points) - len(listed)
    return (
        f"The searcher judges this trial at {', '.join(listed)}{f' and {more} more' if more else ''}, or at the next "
        f"validation: whether a validation_period of {_spoken(schedule)} has one exactly there cannot be known before. "
        "Leave validation_period out of fit() to have one there."
    )


def _spoken(schedule: Schedule) -> str:
    if isinstance(schedule, Unit):
        return f"{schedule.value:,} {schedule.key}"
    return ", ".join(map(_spoken, schedule)) if len(schedule) <= _NAMED else f"{len(schedule)} points"
