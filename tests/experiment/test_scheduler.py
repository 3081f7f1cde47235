from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mnist_trials.experiment.scheduler import Waiting, schedule
from mnist_trials.records import Slot


def slots(count: int) -> list[Slot]:
    return [Slot(id=f"cpu:{i}", backend="cpu", index=i, description="", threads=1) for i in range(count)]


def started(waiting: list[Waiting], free: int, room: int | None = None) -> list[tuple[int, int]]:
    return [(start.trial_id, len(start.slots)) for start in schedule(waiting, slots(free), room)]


def test_trials_start_in_order_as_long_as_there_are_slots() -> None:
    assert started([Waiting(3, 1), Waiting(5, 1), Waiting(7, 1)], 2) == [(3, 1), (5, 1)]


def test_a_trial_gets_all_of_its_slots_or_none_and_is_not_overtaken() -> None:
    assert started([Waiting(1, 3), Waiting(2, 1)], 2) == []
    assert started([Waiting(1, 2), Waiting(2, 2), Waiting(3, 1)], 3) == [(1, 2)]


def test_no_more_start_than_there_is_room_for() -> None:
    assert started([Waiting(1, 1), Waiting(2, 1)], 4, 1) == [(1, 1)]
    assert started([Waiting(1, 1)], 4, 0) == []
    assert started([Waiting(1, 1)], 4, -1) == []


@given(
    st.lists(st.integers(1, 5), max_size=12),
    st.integers(0, 12),
    st.none() | st.integers(0, 12),
)
def test_slots_are_never_oversold_and_none_lies_idle_that_the_first_in_line_could_use(
    sizes: list[int], free: int, room: int | None
) -> None:
    waiting = [Waiting(number, size) for number, size in enumerate(sizes)]
    starts = schedule(waiting, slots(free), room)
    given_out = [slot.id for start in starts for slot in start.slots]
    assert len(given_out) == len(set(given_out)) <= free
    assert [start.trial_id for start in starts] == list(range(len(starts)))
    assert all(len(start.slots) == sizes[start.trial_id] for start in starts)
    assert room is None or len(starts) <= room
    if len(starts) < len(waiting) and (room is None or len(starts) < room):
        assert sizes[len(starts)] > free - len(given_out)
