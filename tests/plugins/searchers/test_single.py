from __future__ import annotations

import pytest

from mnist_trials.plugin import Bracket, Create, Searcher, SearcherContext, Shutdown, get_plugins
from mnist_trials.testing import SearcherSuite

CONTEXT = SearcherContext(experiment_seed=0, sample=lambda index: {"index": index})


class TestSingle(SearcherSuite):
    plugin = "single"


def single(**config: object) -> Searcher:
    searcher: Searcher = get_plugins().find("searcher", "single").factory({"name": "single", **config}, {})
    return searcher


@pytest.mark.parametrize("max_length", [{"batches": 10}, 10])
def test_one_trial_is_made_and_its_end_is_the_end(max_length: object) -> None:
    searcher = single(max_length=max_length)
    assert searcher.initial_trials(CONTEXT) == [Create()]
    assert searcher.progress() == 0.0
    assert searcher.validation_completed(CONTEXT, 1, 5, 0.3) == []
    assert searcher.progress() == 0.5
    assert searcher.validation_completed(CONTEXT, 1, 12, None) == []
    assert searcher.progress() == 1.0
    assert searcher.trial_exited(CONTEXT, 1) == [Shutdown()]
    assert searcher.progress() == 1.0


@pytest.mark.parametrize("reason", ["error", "invalid_hp"])
def test_a_trial_that_fails_is_not_replaced(reason: str) -> None:
    searcher = single(max_length={"epochs": 2})
    searcher.initial_trials(CONTEXT)
    assert searcher.trial_failed(CONTEXT, 1, reason) == [Shutdown()]


def test_without_a_length_the_end_is_all_the_progress_there_is() -> None:
    searcher = single()
    searcher.initial_trials(CONTEXT)
    searcher.validation_completed(CONTEXT, 1, 5, 0.3)
    assert searcher.progress() == 0.0
    searcher.trial_exited(CONTEXT, 1)
    assert searcher.progress() == 1.0


def test_a_restored_searcher_is_as_far_as_the_one_that_was_saved() -> None:
    first, second = single(max_length=10), single(max_length=10)
    first.initial_trials(CONTEXT)
    first.validation_completed(CONTEXT, 1, 4, 0.3)
    second.restore(first.snapshot())
    assert second.progress() == 0.4
    assert second.snapshot() == first.snapshot()


def test_its_plan_is_one_trial_of_one_rung() -> None:
    plan = [Bracket(rungs=(10,), trials=(1,), max_concurrent_trials=1)]

    assert single(max_length={"records": 10}).brackets() == plan
    assert single(max_time=10, time_metric="seconds").brackets() == plan
    assert single().brackets() is None
