"""Known cases of one bracket. That any other is decided by the same rules is in test_against_reference.py."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from typing_extensions import override

from mnist_trials.plugin import Bracket, Create, Judgement, Pause, Resume, Shutdown, Stop, get_plugins
from mnist_trials.testing import SearcherSuite
from tests.plugins.searchers.made import Told, brackets, make


class TestAsha(SearcherSuite):
    plugin = "asha"

    @override
    def config(self) -> Mapping[str, Any]:
        return {**super().config(), "max_trials": 17, "max_concurrent_trials": 3, "num_rungs": 3, "divisor": 2}


class TestAshaWithPromotions(TestAsha):
    @override
    def config(self) -> Mapping[str, Any]:
        return {**super().config(), "stop_once": False}


class TestAshaByItsOtherName(TestAsha):
    plugin = "async_halving"


def asha(*, max_trials: int, stop_once: bool = True, **config: Any) -> Told:
    """Rungs at 5 and 10, of which half go on; as many trials at once as there may be, unless said otherwise."""
    common: dict[str, Any] = {"num_rungs": 2, "divisor": 2, "max_length": {"batches": 10}, "max_concurrent_trials": 0}
    return Told(make("asha", max_trials=max_trials, stop_once=stop_once, **{**common, **config}))


def judgement(
    rank: int, of: int, kept: int, threshold: float | None, *, rung: int = 0, units: int = 5, bracket: int = 0
) -> Judgement:
    return Judgement(bracket=bracket, rung=rung, units=units, rank=rank, of=of, kept=kept, threshold=threshold)


@pytest.mark.parametrize(
    ("length", "divisor", "num_rungs", "rungs"),
    [
        (1000, 10, 4, (1, 10, 100, 1000)),
        (100, 4, 3, (6, 25, 100)),
        (9, 4, 5, (1, 2, 9)),  # equal rungs merge
        (1, 4, 5, (1,)),
        (100, 2.5, 6, (1, 2, 6, 16, 40, 100)),
        (11, 1.1, 3, (9, 10, 11)),  # 11 / 1.1 as floats is 9.999...
        (243, 3, 9, (1, 3, 9, 27, 81, 243)),
        (10**18, 10, 2, (10**17, 10**18)),
        (7, 1000, 1000, (1, 7)),
    ],
)
def test_each_rung_is_the_next_one_over_the_divisor(
    length: int, divisor: float, num_rungs: int, rungs: tuple[int, ...]
) -> None:
    (bracket,) = brackets("asha", max_trials=5, num_rungs=num_rungs, divisor=divisor, max_length={"epochs": length})

    assert bracket.rungs == rungs


def test_the_plan_is_how_many_trials_come_to_each_rung() -> None:
    common = {"num_rungs": 4, "divisor": 4, "max_length": 64}

    assert brackets("asha", max_trials=40, **common) == [
        Bracket(rungs=(1, 4, 16, 64), trials=(40, 10, 2, 1), max_concurrent_trials=16)
    ]
    (unbounded,) = brackets("asha", max_trials=40, max_concurrent_trials=0, **common)
    assert unbounded.max_concurrent_trials == 40


def test_a_time_takes_the_place_of_a_length() -> None:
    (bracket,) = brackets("asha", max_trials=4, num_rungs=3, divisor=2, max_time=60, time_metric="seconds")

    assert bracket.rungs == (15, 30, 60)


def test_a_trial_must_be_validated_at_every_rung() -> None:
    told = asha(max_trials=3)

    assert told.searcher.validate_at(2) == (5, 10)
    assert told.searcher.bracket_of(2) == 0


def test_as_many_trials_begin_as_may_run_at_once() -> None:
    assert asha(max_trials=4).first == [Create()] * 4
    assert asha(max_trials=4, max_concurrent_trials=3).first == [Create()] * 3
    assert asha(max_trials=4, max_concurrent_trials=9, stop_once=False).first == [Create(until=5)] * 4


def test_a_trial_goes_on_if_it_is_among_the_best_of_those_so_far() -> None:
    told = asha(max_trials=6, max_concurrent_trials=4)

    assert told.report(1, 5, 0.5) == []  # best of 1
    assert told.report(2, 5, 0.4) == []  # best of 2
    assert told.report(3, 5, 0.45) == [Stop(3, judgement(2, 3, 1, 0.4)), Create()]
    assert told.report(4, 5, 0.43) == []  # second of 4, and two are kept
    assert told.report(5, 5, 0.41) == []  # second of 5
    assert told.exit(3) == []  # it was replaced when it was stopped


def test_between_rungs_and_at_the_top_nobody_is_judged() -> None:
    told = asha(max_trials=2)
    told.report(1, 5, 0.1)
    told.report(2, 5, 0.2)

    assert told.report(1, 7, 9.0) == []
    assert told.report(1, 10, 9.0) == []
    assert told.exit(2) == []
    assert told.exit(1) == [Shutdown()]


def test_a_report_counts_for_every_rung_it_reached() -> None:
    told = asha(max_trials=9, max_length=20, num_rungs=3)
    told.report(1, 10, 0.5)
    told.report(2, 10, 0.4)

    assert told.report(3, 5, 0.45) == [Stop(3, judgement(2, 3, 1, 0.4))]
    # At 5 it is one of the best two of four; at 10 it is the second of three, of which one goes on.
    assert told.report(4, 12, 0.42) == [Stop(4, judgement(2, 3, 1, 0.4, rung=1, units=10))]
    assert told.report(5, 20, 0.6) == [Stop(5, judgement(5, 5, 2, 0.42))]  # said of the lowest rung


def test_of_equal_metrics_the_first_to_come_ranks_first() -> None:
    told = asha(max_trials=4)

    assert told.report(3, 5, 0.5) == []
    assert told.report(1, 5, 0.5) == [Stop(1, judgement(2, 2, 1, 0.5))]


def test_larger_metrics_are_better_where_the_config_says_so() -> None:
    told = asha(max_trials=4, smaller_is_better=False)

    assert told.report(1, 5, 0.5) == []
    assert told.report(2, 5, 0.6) == []
    assert told.report(3, 5, 0.55) == [Stop(3, judgement(2, 3, 1, 0.6))]


@pytest.mark.parametrize("smaller_is_better", [True, False])
def test_a_metric_that_is_not_finite_is_the_worst_of_all(smaller_is_better: bool) -> None:
    told = asha(max_trials=4, smaller_is_better=smaller_is_better)

    assert told.report(1, 5, None) == []  # the best there is so far
    assert told.report(2, 5, None) == [Stop(2, judgement(2, 2, 1, None))]
    assert told.report(3, 5, -1e308) == []
    assert told.report(4, 5, 1e308) == []  # two of four are kept


def test_reports_of_a_stopped_trial_are_ignored() -> None:
    told = asha(max_trials=3, max_concurrent_trials=2)
    told.report(1, 5, 0.1)
    assert told.report(2, 5, 0.2) == [Stop(2, judgement(2, 2, 1, 0.1)), Create()]

    assert told.report(2, 10, 0.0) == []
    assert told.exit(2) == []
    assert told.report(3, 5, 0.15) == [Stop(3, judgement(2, 3, 1, 0.1))]


def test_a_trial_that_failed_counts_as_the_worst_where_it_was_going() -> None:
    told = asha(max_trials=4, max_concurrent_trials=3)

    assert told.fail(1) == [Create()]  # in its place; and one None is at the first rung
    assert told.report(2, 5, 0.5) == []
    assert told.report(3, 5, 0.6) == [Stop(3, judgement(2, 3, 1, 0.5))]


def test_a_trial_with_invalid_hyperparameters_is_as_if_it_had_never_been() -> None:
    told = asha(max_trials=2)
    told.report(1, 5, 0.1)

    assert told.fail(1, "invalid_hp") == [Create()]
    assert told.report(2, 5, 0.2) == []  # alone at its rung
    assert told.report(3, 5, 0.3) == [Stop(3, judgement(2, 2, 1, 0.2))]
    assert told.exit(2) == []
    assert told.exit(3) == [Shutdown()]


def test_a_search_whose_trials_are_all_invalid_ends_saying_so() -> None:
    told = asha(max_trials=3, max_concurrent_trials=1)
    assert [told.fail(i, "invalid_hp") for i in (1, 2, 3)] == [[Create()]] * 3

    (shutdown,) = told.fail(4, "invalid_hp")

    assert isinstance(shutdown, Shutdown)
    assert shutdown.why == (
        "4 trials had invalid hyperparameters, and at most 3 are replaced, as many as the search makes. Narrow the "
        "ranges of the hyperparameters."
    )


def test_a_trial_that_ends_early_of_itself_makes_room() -> None:
    told = asha(max_trials=2, max_concurrent_trials=1)

    assert told.exit(1) == [Create()]
    assert told.exit(2) == [Shutdown()]


def test_a_trial_rests_at_a_rung_until_it_is_promoted() -> None:
    told = asha(max_trials=4, max_concurrent_trials=1, stop_once=False)

    assert told.first == [Create(until=5)]
    assert told.report(1, 5, 0.5) == [Pause(1, judgement(1, 1, 0, None)), Create(until=5)]
    assert told.report(2, 5, 0.6) == [Pause(2, judgement(2, 2, 1, 0.5)), Resume(1, 10, judgement(1, 2, 1, 0.5))]
    assert told.report(1, 10, 0.3) == []
    assert told.exit(1) == [Create(until=5)]
    assert told.report(3, 5, 0.7) == [Pause(3, judgement(3, 3, 1, 0.5)), Create(until=5)]
    assert told.report(4, 5, 0.8) == [Pause(4, judgement(4, 4, 2, 0.6)), Resume(2, 10, judgement(2, 4, 2, 0.6))]
    assert told.report(2, 10, 0.4) == []
    assert told.exit(2) == [Shutdown()]


def test_a_trial_that_is_promoted_at_once_need_not_leave_its_slots() -> None:
    told = asha(max_trials=4, max_concurrent_trials=2, stop_once=False)
    told.report(1, 5, 0.5)

    stands = judgement(1, 2, 1, 0.4)
    assert told.report(2, 5, 0.4) == [Pause(2, stands), Resume(2, 10, stands)]


def test_promotions_are_looked_for_from_the_highest_rung_down() -> None:
    told = asha(max_trials=9, max_concurrent_trials=1, max_length=20, num_rungs=3, stop_once=False)
    for trial_id, metric in enumerate((0.5, 0.6), start=1):
        told.report(trial_id, 5, metric)  # 1 goes on
    told.report(1, 10, 0.5)  # and rests, alone at its rung; 3 begins
    told.report(3, 5, 0.7)  # 4 begins
    told.report(4, 5, 0.4)  # 4 and 1 are the best two of four; 4 goes on

    # Two are at the second rung now, and the better one is promoted although a trial is left to make.
    stands = judgement(1, 2, 1, 0.3, rung=1, units=10)
    assert told.report(4, 10, 0.3) == [Pause(4, stands), Resume(4, 20, stands)]


def test_when_nothing_runs_and_none_is_left_to_make_the_best_still_comes_to_the_top() -> None:
    told = asha(max_trials=3, divisor=4, max_length=16, num_rungs=3, stop_once=False)
    told.report(1, 1, 0.5)
    told.report(2, 1, 0.4)

    rests = Pause(3, judgement(3, 3, 0, None, units=1))
    assert told.report(3, 1, 0.6) == [rests, Resume(2, 4, judgement(1, 3, 1, 0.4, units=1))]
    rests = Pause(2, judgement(1, 1, 0, None, rung=1, units=4))
    assert told.report(2, 4, 0.4) == [rests, Resume(2, 16, judgement(1, 1, 1, 0.4, rung=1, units=4))]
    assert told.report(2, 16, 0.4) == []
    assert told.exit(2) == [Shutdown()]


def test_a_resting_trial_that_had_come_further_counts_for_the_next_rung_too() -> None:
    told = asha(max_trials=4, max_concurrent_trials=2, max_length=20, num_rungs=3, stop_once=False)
    told.report(1, 5, 0.5)

    assert told.report(1, 10, 0.5) == []  # it was on its way when the pause was asked for
    assert told.report(2, 5, 0.6) == [Pause(2, judgement(2, 2, 1, 0.5)), Create(until=5)]  # 1 has left that rung


def test_a_resting_trial_that_is_ended_by_somebody_is_not_promoted() -> None:
    told = asha(max_trials=2, stop_once=False)
    told.report(1, 5, 0.5)

    assert told.exit(1) == []
    stands = judgement(2, 2, 1, 0.5)
    assert told.report(2, 5, 0.6) == [Pause(2, stands), Shutdown()]


def test_after_the_end_a_trial_at_a_rung_is_left_to_end() -> None:
    told = asha(max_trials=2, stop_once=False)
    for trial_id in (1, 3, 4):
        told.fail(trial_id, "invalid_hp")

    assert told.report(2, 5, 0.5) == []
    assert told.exit(2) == []


def test_trials_of_one_rung_are_never_stopped() -> None:
    told = asha(max_trials=3, num_rungs=1)

    assert [told.report(i, 10, i) for i in (1, 2, 3)] == [[]] * 3


@pytest.mark.parametrize("stop_once", [True, False])
def test_a_snapshot_takes_few_characters_for_each_trial(stop_once: bool) -> None:
    told = asha(max_trials=2000, stop_once=stop_once, num_rungs=5, max_length=1000, divisor=4)
    for trial_id in range(1, 2001):
        told.report(trial_id, 3, trial_id / 7)

    assert len(json.dumps(told.searcher.snapshot())) < 45 * 2000


def test_it_is_listed_with_its_alias() -> None:
    record = get_plugins().find("searcher", "async_halving")

    assert record.name == "asha"
