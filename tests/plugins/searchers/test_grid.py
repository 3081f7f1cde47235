from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from typing_extensions import override

from mnist_trials.plugin import Bracket, Create, Shutdown
from mnist_trials.testing import SearcherSuite
from tests.plugins.searchers.made import Told, make

SPACE = {
    "b": {"type": "int", "minval": 1, "maxval": 3, "count": 2},
    "a": {"type": "categorical", "vals": ["x", "y"]},
    "fixed": 7,
}


class TestGrid(SearcherSuite):
    plugin = "grid"

    @override
    def config(self) -> Mapping[str, Any]:
        return {**super().config(), "max_concurrent_trials": 4}


def test_there_is_one_trial_at_every_point_the_first_name_varying_slowest() -> None:
    told = Told(make("grid", SPACE, max_length=10))

    assert told.first == [Create({"b": b, "a": a, "fixed": 7}) for a in ("x", "y") for b in (1, 3)]


def test_without_hyperparameters_there_is_one_trial() -> None:
    assert Told(make("grid", {})).first == [Create({})]
    assert Told(make("grid", {"a": {"b": 1}})).first == [Create({"a": {"b": 1}})]


@pytest.mark.parametrize("reason", ["error", "invalid_hp"])
def test_a_point_that_failed_is_not_tried_again(reason: str) -> None:
    told = Told(make("grid", SPACE, max_concurrent_trials=3, max_length=10))
    assert len(told.first) == 3

    assert told.fail(1, reason) == [Create({"b": 3, "a": "y", "fixed": 7})]
    assert [told.fail(2, reason), told.exit(3)] == [[], []]
    assert told.searcher.progress() == 0.75
    assert told.exit(4) == [Shutdown()]


def test_its_plan_is_one_bracket_of_one_rung() -> None:
    plan = [Bracket(rungs=(10,), trials=(4,), max_concurrent_trials=16)]

    assert make("grid", SPACE, max_length={"epochs": 10}).brackets() == plan
    assert make("grid", SPACE, max_time=10, time_metric="seconds").brackets() == plan
    assert make("grid", SPACE).brackets() is None  # the script decides how long it trains
    (unbounded,) = make("grid", SPACE, max_length=10, max_concurrent_trials=0).brackets() or ()
    assert unbounded.max_concurrent_trials == 4


def test_a_large_grid_is_not_held_in_memory() -> None:
    axis = {"type": "double", "minval": 0, "maxval": 1, "count": 1000}
    told = Told(make("grid", {"a": axis, "b": axis}, max_length=10, max_concurrent_trials=2))

    assert told.first == [Create({"a": 0.0, "b": 0.0}), Create({"a": 0.0, "b": 1 / 999})]
    assert len(str(told.searcher.snapshot())) < 200
