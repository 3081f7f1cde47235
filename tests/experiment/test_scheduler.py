from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from mnist_trials.experiment.scheduler import Waiting, place, runs_of, schedule
from mnist_trials.records import Slot


def slots(count: int) -> list[Slot]:
    return [Slot(id=f"cpu:{i}", backend="cpu", index=i, description="", threads=1) for i in range(count)]


def at(*indices: int, host: str = "localhost") -> list[Slot]:
    return [Slot(id=f"cuda:{i}", backend="cuda", index=i, description="", threads=1, host=host) for i in indices]


def placed(free: list[Slot], count: int, **how: bool) -> list[tuple[str, int]] | None:
    slots = place(free, count, **how)
    return None if slots is None else [(slot.host, slot.index) for slot in slots]


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


def test_the_shortest_run_of_neighbours_that_is_long_enough_is_taken() -> None:
    free = at(0, 1, 2, 3, 5, 6, 8)
    assert placed(free, 1) == [("localhost", 8)]
    assert placed(free, 2) == [("localhost", 5), ("localhost", 6)]
    assert placed(free, 3) == [("localhost", 0), ("localhost", 1), ("localhost", 2)]
    assert placed(at(0, 1, 4, 5), 2) == [("localhost", 0), ("localhost", 1)]


def test_where_no_run_is_long_enough_as_few_as_possible_are_taken_the_longest_first() -> None:
    assert placed(at(0, 2, 3, 4, 6, 7), 5) == [("localhost", index) for index in (2, 3, 4, 6, 7)]
    assert placed(at(0, 2, 3, 4, 6, 7), 4) == [("localhost", index) for index in (0, 2, 3, 4)]


def test_neighbours_are_on_one_host() -> None:
    free = at(0, 1, host="a") + at(2, 3, 4, host="b")
    assert placed(free, 3) == [("b", 2), ("b", 3), ("b", 4)]
    assert placed(free, 4) == [("a", 0), ("b", 2), ("b", 3), ("b", 4)]
    assert placed(free, 4, one_host=True) is None
    assert placed(at(0, 2, host="a") + at(0, 1, 2, host="b"), 2, one_host=True) == [("a", 0), ("a", 2)]


def fewest_runs(free: list[Slot], count: int) -> int:
    """By trying: the least number of runs that together have `count` slots."""
    lengths = [len(run) for run in runs_of(free)]
    sizes = range(1, len(lengths) + 1)
    return next(size for size in sizes if any(sum(some) >= count for some in combinations(lengths, size)))


@given(st.sets(st.tuples(st.sampled_from("ab"), st.integers(0, 9))), st.integers(1, 20))
def test_a_placement_is_of_free_slots_and_of_as_few_runs_as_can_be(where: set[tuple[str, int]], count: int) -> None:
    free = [slot for host, index in sorted(where) for slot in at(index, host=host)]
    slots = place(free, count)
    if count > len(free):
        assert slots is None
        return
    assert slots is not None
    assert len(set(slots)) == count
    assert set(slots) <= set(free)
    assert list(slots) == sorted(slots, key=lambda slot: (slot.host, slot.index))
    used = [run for run in runs_of(free) if set(run) & set(slots)]
    assert len(used) == fewest_runs(free, count)
    if len(used) == 1:
        assert len(used[0]) == min(len(run) for run in runs_of(free) if len(run) >= count)


@given(st.sets(st.tuples(st.sampled_from("ab"), st.integers(0, 9))), st.integers(1, 12))
def test_on_one_host_it_fits_if_and_only_if_one_has_enough(where: set[tuple[str, int]], count: int) -> None:
    free = [slot for host, index in sorted(where) for slot in at(index, host=host)]
    slots = place(free, count, one_host=True)
    assert (slots is None) == all(sum(slot.host == host for slot in free) < count for host in "ab")
    assert slots is None or len({slot.host for slot in slots}) == 1
