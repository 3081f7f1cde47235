"""Which checkpoints are kept, beside a reference written as plainly as possible."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_trials.checkpoint.retention import Retention, RetentionPolicy, SavedCheckpoint
from tests.kept_sets import CASES, METRICS


def policy(experiment_best: int, trial_best: int, trial_latest: int, *, smaller: bool = True) -> RetentionPolicy:
    return RetentionPolicy(
        experiment_best=experiment_best, trial_best=trial_best, trial_latest=trial_latest, smaller_is_better=smaller
    )


def nothing(_: SavedCheckpoint) -> bool:
    return False


def checkpoint(number: int, trial_id: int, batches: int, metric: float | None) -> SavedCheckpoint:
    return SavedCheckpoint(uuid=str(number), trial_id=trial_id, batches=batches, metric=metric, number=number)


@pytest.mark.parametrize(("counts", "kept"), CASES)
def test_the_union_of_the_three_sets_is_kept(counts: tuple[int, int, int], kept: set[int]) -> None:
    retention = Retention(policy(*counts), nothing)
    left = set(range(1, 11))
    for number in range(1, 11):
        saved = checkpoint(number, 1 if number <= 5 else 2, number, METRICS.get(number))
        left -= {int(gone.uuid) for gone in retention.saved(saved)}
    assert left == kept


def test_the_best_is_the_largest_where_larger_is_better() -> None:
    retention = Retention(policy(1, 0, 0, smaller=False), nothing)
    gone = [
        g.uuid for n, value in ((1, 0.9), (2, 0.97), (3, 0.95)) for g in retention.saved(checkpoint(n, n, 1, value))
    ]
    assert gone == ["1", "3"]


def test_of_two_that_are_equally_good_the_earlier_is_kept() -> None:
    retention = Retention(policy(0, 1, 0), nothing)
    assert retention.saved(checkpoint(1, 1, 10, 0.5)) == []
    assert [gone.uuid for gone in retention.saved(checkpoint(2, 1, 20, 0.5))] == ["2"]


def test_one_that_is_needed_stays_until_it_is_needed_no_more() -> None:
    needed = {"1"}
    retention = Retention(policy(0, 0, 0), lambda one: one.uuid in needed)
    assert retention.saved(checkpoint(1, 1, 10, 0.5)) == []
    needed.clear()
    assert [gone.uuid for gone in retention.trial_changed(1)] == ["1"]
    assert retention.trial_changed(1) == []


def test_one_that_is_lost_is_not_named_and_makes_room() -> None:
    retention = Retention(policy(0, 1, 0), nothing)
    first = checkpoint(1, 1, 10, 0.1)
    retention.saved(first)
    retention.lost(first)
    assert retention.saved(checkpoint(2, 1, 20, 0.5)) == []


SAVES = st.lists(st.tuples(st.integers(1, 4), st.none() | st.integers(0, 5).map(float)), max_size=40)


@given(SAVES, st.integers(0, 4), st.integers(0, 3), st.integers(0, 3), st.booleans())
def test_what_is_left_is_always_what_a_plain_reference_keeps(
    saves: list[tuple[int, float | None]], experiment_best: int, trial_best: int, trial_latest: int, smaller: bool
) -> None:
    retention = Retention(policy(experiment_best, trial_best, trial_latest, smaller=smaller), nothing)
    everything: list[SavedCheckpoint] = []
    left: set[str] = set()
    for number, (trial_id, metric) in enumerate(saves):
        saved = checkpoint(number, trial_id, number, metric)
        everything.append(saved)
        left = (left | {saved.uuid}) - {gone.uuid for gone in retention.saved(saved)}
        assert left == plain(everything, experiment_best, trial_best, trial_latest, smaller)


def plain(
    everything: list[SavedCheckpoint], experiment_best: int, trial_best: int, trial_latest: int, smaller: bool
) -> set[str]:
    sign = 1 if smaller else -1
    ranked = sorted(
        (one for one in everything if one.metric is not None), key=lambda one: (sign * one.metric, one.number)
    )
    kept = {one.uuid for one in ranked[:experiment_best]}
    for trial_id in {one.trial_id for one in everything}:
        kept |= {one.uuid for one in [r for r in ranked if r.trial_id == trial_id][:trial_best]}
        own = [one for one in everything if one.trial_id == trial_id]
        kept |= {one.uuid for one in own[::-1][:trial_latest]}
    return kept
