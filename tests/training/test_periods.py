"""Periods and points in every unit."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mnist_trials.training.periods import Due, Position, batches_before
from mnist_trials.units import Batch, Epoch, Record

UNITS = st.one_of(
    st.builds(Batch, st.integers(1, 30)), st.builds(Record, st.integers(1, 300)), st.builds(Epoch, st.integers(1, 4))
)
SCHEDULES = st.one_of(st.none(), UNITS, st.lists(UNITS, min_size=1, max_size=4))
SIZES = st.lists(st.integers(1, 16), min_size=1, max_size=60)
EPOCH = 7


def walk(sizes: list[int]) -> list[Position]:
    """The positions after each batch of these sizes."""
    positions = []
    now = Position()
    for size in sizes:
        now = Position(
            batches=now.batches + 1,
            records=now.records + size,
            epochs=(now.batches + 1) // EPOCH,
            batch_in_epoch=(now.batches + 1) % EPOCH,
        )
        positions.append(now)
    return positions


def crossed(unit: Batch | Epoch | Record, before: Position, after: Position) -> bool:
    return before.value(type(unit)) // unit.value < after.value(type(unit)) // unit.value


@given(SCHEDULES, SIZES)
def test_due_once_for_each_multiple_or_point_passed(schedule: object, sizes: list[int]) -> None:
    due = Due(Position(), schedule)  # type: ignore[arg-type]
    before = Position()
    for position in walk(sizes):
        if schedule is None:
            expected = False
        elif isinstance(schedule, list):
            expected = any(not before.reached(point) and position.reached(point) for point in schedule)
        else:
            expected = crossed(schedule, before, position)  # type: ignore[arg-type]
        assert due.arrive(position) == expected
        before = position


@given(SCHEDULES, SIZES, st.integers(0, 59))
def test_a_schedule_made_in_the_middle_goes_on_like_one_from_the_start(
    schedule: object, sizes: list[int], at: int
) -> None:
    positions = walk(sizes)
    at = min(at, len(positions) - 1)
    whole = Due(Position(), schedule)  # type: ignore[arg-type]
    for position in positions[: at + 1]:
        whole.arrive(position)
    later = Due(positions[at], schedule)  # type: ignore[arg-type]
    rest = positions[at + 1 :]
    assert [whole.arrive(p) for p in rest] == [later.arrive(p) for p in rest]


@given(SCHEDULES, SIZES, st.booleans())
def test_nothing_is_due_inside_the_batches_said_to_be_free(schedule: object, sizes: list[int], known: bool) -> None:
    due = Due(Position(), schedule)  # type: ignore[arg-type]
    largest = 16 if known else None
    free = due.batches_before(Position(), largest)
    for number, position in enumerate(walk(sizes), start=1):
        arrived = due.arrive(position)
        ends_epoch = position.batch_in_epoch == 0
        if arrived and not ends_epoch:
            assert free is not None
            assert number >= free
        if arrived or (free is not None and number >= free) or ends_epoch:
            left = due.batches_before(position, largest)
            free = None if left is None else number + left


def test_records_are_counted_in_batches_of_at_most_the_largest_size() -> None:
    assert batches_before(Position(records=10), Record, 100, 32) == 3
    assert batches_before(Position(records=10), Record, 100, None) == 1
    assert batches_before(Position(), Epoch, 2, 32) is None
