from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from typing_extensions import override

from mnist_trials.plugin import Bracket, Create, Shutdown
from mnist_trials.testing import SearcherSuite
from tests.plugins.searchers.made import Told, make

REAL = {"a": {"type": "double", "minval": 0.0, "maxval": 1.0}}
THREE = {"a": {"type": "int", "minval": 1, "maxval": 3}, "b": 2}


class TestRandom(SearcherSuite):
    plugin = "random"

    @override
    def config(self) -> Mapping[str, Any]:
        return {**super().config(), "max_trials": 7, "max_concurrent_trials": 3}


class TestRandomOfFewPoints(TestRandom):
    @override
    def hyperparameters(self) -> Mapping[str, Any]:
        return THREE


def random(space: Mapping[str, Any] = REAL, **config: Any) -> Told:
    return Told(make("random", space, max_length={"batches": 10}, **config))


def test_trials_follow_one_another_until_there_were_enough() -> None:
    told = random(max_trials=3, max_concurrent_trials=2)

    assert told.first == [Create(), Create()]
    assert told.report(1, 10, 0.5) == []
    assert told.exit(2) == [Create()]
    assert told.exit(1) == []
    assert told.exit(3) == [Shutdown()]


def test_without_a_bound_all_begin_at_once() -> None:
    assert random(max_trials=30, max_concurrent_trials=0).first == [Create()] * 30
    assert random(max_trials=30).first == [Create()] * 16


def test_a_space_of_few_points_is_exhausted_and_then_the_search_ends() -> None:
    assert random(THREE, max_trials=10).first == [Create()] * 3
    assert random({"a": 1}, max_trials=10).first == [Create()]
    assert random({}, max_trials=10).first == [Create()]


def test_a_trial_that_failed_counts_as_made() -> None:
    told = random(max_trials=2, max_concurrent_trials=1)

    assert told.fail(1) == [Create()]
    assert told.fail(2) == [Shutdown()]


def test_a_trial_with_invalid_hyperparameters_is_made_up_for() -> None:
    told = random(max_trials=2)

    assert told.fail(1, "invalid_hp") == [Create()]
    assert told.exit(2) == []
    assert told.fail(3, "invalid_hp") == [Create()]
    assert told.searcher.progress() == 0.5
    assert told.exit(4) == [Shutdown()]


def test_but_not_by_a_point_that_had_its_turn() -> None:
    told = random(THREE, max_trials=2, max_concurrent_trials=1)

    assert told.fail(1, "invalid_hp") == [Create()]
    assert told.fail(2, "invalid_hp") == [Create()]
    assert told.exit(3) == [Shutdown()]


def test_a_search_whose_trials_are_all_invalid_ends_saying_so() -> None:
    told = random(max_trials=2, max_concurrent_trials=1)
    assert [told.fail(i, "invalid_hp") for i in (1, 2)] == [[Create()]] * 2

    (shutdown,) = told.fail(3, "invalid_hp")

    assert isinstance(shutdown, Shutdown)
    assert shutdown.why.startswith("3 trials had invalid hyperparameters, and at most 2 are replaced")


def test_after_it_said_so_nothing_is_made_any_more() -> None:
    told = random(max_trials=2, max_concurrent_trials=2)
    for trial_id in (1, 3, 4):
        told.fail(trial_id, "invalid_hp")

    assert told.exit(2) == []


def test_progress_counts_the_units_of_trials_that_run() -> None:
    told = random(max_trials=4, max_concurrent_trials=2)
    told.report(1, 5, 0.1)
    assert told.searcher.progress() == 0.125
    told.report(2, 99, 0.1)  # a script may go beyond its length
    assert told.searcher.progress() == 0.375

    told.fail(1, "invalid_hp")

    assert told.searcher.progress() == 0.375  # it never goes down
    told.exit(2)
    told.report(3, 10, 0.1)
    assert told.searcher.progress() == 0.5


def test_its_plan_is_one_bracket_of_one_rung() -> None:
    searcher = make("random", THREE, max_trials=9, max_length=10, max_concurrent_trials=2)

    assert searcher.brackets() == [Bracket(rungs=(10,), trials=(3,), max_concurrent_trials=2)]
    assert searcher.validate_at(1) == ()
    assert make("random", THREE, max_trials=9).brackets() is None
