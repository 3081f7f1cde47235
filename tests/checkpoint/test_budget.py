"""A bound on bytes, beside a reference written as plainly as possible."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mnist_trials.checkpoint.budget import ByteBudget
from mnist_trials.checkpoint.retention import SavedCheckpoint


def checkpoint(number: int, metric: float | None = None, trial_id: int = 1) -> SavedCheckpoint:
    return SavedCheckpoint(uuid=str(number), trial_id=trial_id, batches=number, metric=metric, number=number)


def nothing(_: SavedCheckpoint) -> bool:
    return False


def test_without_a_limit_nothing_is_given_up() -> None:
    budget = ByteBudget(None, smaller_is_better=True)
    budget.add(checkpoint(1), 10**18)
    assert not budget.exceeded
    assert budget.excess(nothing) == []


def test_those_without_a_metric_go_first_then_the_worst_of_equals_the_later() -> None:
    budget = ByteBudget(0, smaller_is_better=False)
    for number, metric in ((1, 0.9), (2, None), (3, 0.5), (4, 0.5), (5, None)):
        budget.add(checkpoint(number, metric), 1)
    assert [one.uuid for one in budget.excess(nothing)] == ["2", "5", "4", "3", "1"]


def test_one_that_is_needed_is_spared_until_its_trial_needs_it_no_more() -> None:
    budget = ByteBudget(10, smaller_is_better=True)
    needed = {"1"}
    budget.add(checkpoint(1), 8)
    budget.add(checkpoint(2, 0.1, trial_id=2), 8)
    assert [one.uuid for one in budget.excess(lambda one: one.uuid in needed)] == ["2"]
    budget.add(checkpoint(3, trial_id=2), 8)
    assert budget.excess(lambda one: one.uuid in needed or one.uuid == "3") == []
    assert budget.exceeded
    needed.clear()
    budget.trial_changed(1)
    assert [one.uuid for one in budget.excess(lambda one: one.uuid == "3")] == ["1"]
    assert not budget.exceeded


def test_one_that_is_removed_counts_no_more() -> None:
    budget = ByteBudget(10, smaller_is_better=True)
    budget.add(checkpoint(1), 8)
    budget.remove("1")
    budget.remove("no such")
    budget.add(checkpoint(2), 8)
    assert (budget.total, budget.excess(nothing)) == (8, [])


@given(st.lists(st.tuples(st.integers(1, 9), st.none() | st.integers(0, 5).map(float))), st.integers(0, 30))
def test_what_is_left_is_what_a_plain_reference_leaves(saves: list[tuple[int, float | None]], limit: int) -> None:
    budget = ByteBudget(limit, smaller_is_better=True)
    left: list[tuple[SavedCheckpoint, int]] = []
    for number, (size, metric) in enumerate(saves):
        saved = checkpoint(number, metric)
        budget.add(saved, size)
        left.append((saved, size))
        budget.excess(nothing)
        while sum(size for _, size in left) > limit:
            left.remove(max(left, key=lambda entry: bad(entry[0])))
        assert budget.total == sum(size for _, size in left)


def bad(one: SavedCheckpoint) -> tuple[int, float, int]:
    return (1, 0.0, -one.number) if one.metric is None else (0, one.metric, one.number)
