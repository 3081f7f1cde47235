"""What is told of a search before it begins."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest
from typing_extensions import override

import mnist_trials as mt
from mnist_trials.errors import PluginError, UsageError
from mnist_trials.experiment import preview as preview_module
from mnist_trials.experiment.planned import planned_duration
from mnist_trials.experiment.preview import preview
from mnist_trials.plugin import (
    Action,
    Bracket,
    Create,
    PluginRecord,
    Searcher,
    SearcherContext,
    Shutdown,
    Stop,
    get_plugins,
    hookimpl,
)

LR = {"type": "double", "minval": 0.0, "maxval": 1.0}


def config(name: str, length: object = 64, **searcher: Any) -> dict[str, Any]:
    section = {"name": name, "metric": "loss", "max_length": length, **searcher}
    return {"entrypoint": "python3 train.py", "hyperparameters": {"lr": LR}, "searcher": section}


class Planless(Searcher):
    """Makes `trials`; stops each at 4 units if its metric is above one half. With 0 trials it never ends."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.trials = settings["trials"]
        self.left = self.trials

    @override
    def initial_trials(self, ctx: SearcherContext) -> Sequence[Action]:
        return [Create() for _ in range(self.trials or 1)]

    @override
    def validation_completed(
        self, ctx: SearcherContext, trial_id: int, units: int, metric: float | None
    ) -> Sequence[Action]:
        return [Stop(trial_id)] if units == 4 and (metric or 1) > 0.5 else []

    @override
    def trial_exited(self, ctx: SearcherContext, trial_id: int) -> Sequence[Action]:
        self.left -= 1
        return [Create()] if self.trials == 0 else [] if self.left else [Shutdown()]

    @override
    def trial_failed(self, ctx: SearcherContext, trial_id: int, reason: str) -> Sequence[Action]:
        return self.trial_exited(ctx, trial_id)

    @override
    def validate_at(self, trial_id: int) -> Sequence[int]:
        return (4,)

    @override
    def progress(self) -> float:
        return 0.0

    @override
    def snapshot(self) -> dict[str, Any]:
        return {}

    @override
    def restore(self, snapshot: Mapping[str, Any]) -> None:
        pass


@hookimpl
def mnist_trials_searchers() -> Iterable[PluginRecord[Searcher]]:
    return [PluginRecord("planless", "for tests", lambda settings, hyperparameters: Planless(settings))]


@pytest.fixture(autouse=True)
def planless() -> None:
    plugins = get_plugins()
    if "planless" not in plugins.searchers():
        plugins.register(sys.modules[__name__], "planless")


def test_one_trial_is_one_bracket_of_one_rung() -> None:
    assert preview(config("single", {"epochs": 3})).to_json() == {
        "searcher": "single",
        "trials": 1,
        "max_concurrent_trials": 1,
        "brackets": [{"rungs": (3,), "trials": 1, "max_concurrent_trials": 1}],
        "lengths": [{"units": 3, "trials": 1}],
        "unit": "epochs",
        "total_units": 3,
    }


def test_the_lengths_of_all_brackets_are_put_together() -> None:
    document = preview(config("adaptive_asha", max_trials=20, mode="conservative")).to_json()
    rungs = [bracket["rungs"] for bracket in document["brackets"]]
    assert rungs == [(4, 16, 64), (16, 64), (64,)]
    assert sum(bracket["trials"] for bracket in document["brackets"]) == document["trials"] == 20
    lengths = {entry["units"]: entry["trials"] for entry in document["lengths"]}
    assert list(lengths) == [4, 16, 64]
    assert sum(lengths.values()) == 20
    assert document["total_units"] == sum(units * trials for units, trials in lengths.items())


def test_a_rung_at_which_no_trial_ends_is_no_length() -> None:
    found = preview(config("asha", max_trials=1, num_rungs=3))
    assert found.brackets[0].rungs == (4, 16, 64)
    assert found.lengths == {64: 1}


@pytest.mark.parametrize(("bound", "at_once"), [(5, 5), (16, 16), (0, 20)])
def test_the_bound_in_force_is_told(bound: int, at_once: int) -> None:
    assert preview(config("random", max_trials=20, max_concurrent_trials=bound)).max_concurrent_trials == at_once


@pytest.mark.parametrize(("bound", "at_once"), [(16, 6), (6, 6), (4, 4), (0, 6)])
def test_no_more_trials_run_at_once_than_the_brackets_have_places(bound: int, at_once: int) -> None:
    rounds = {"population_size": 6, "num_rounds": 3, "length_per_round": 4}
    found = preview(config("pbt", 12, **rounds, max_concurrent_trials=bound))
    assert found.max_concurrent_trials == found.brackets[0].max_concurrent_trials == at_once


def test_the_trials_of_a_planned_search_are_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> int:
        raise AssertionError("a million points of a grid take a minute")

    monkeypatch.setattr(preview_module, "first_trials", refuse)
    given = config("grid", max_concurrent_trials=0)
    given["hyperparameters"] = {name: {"type": "int", "minval": 1, "maxval": 1000, "count": 1000} for name in "ab"}
    assert preview(given).max_concurrent_trials == 1_000_000


def test_max_time_gives_the_unit_its_name() -> None:
    found = preview(config("asha", None, max_time=64, time_metric="seconds", max_trials=4, num_rungs=2))
    assert (found.unit, found.brackets[0].rungs) == ("seconds", (16, 64))


def test_overrides_are_carried_out() -> None:
    assert preview(config("random", max_trials=20), overrides=["searcher.max_trials=7"]).total_units == 7 * 64


@pytest.mark.parametrize("search", ["random", "asha", "adaptive_asha"])
def test_as_many_trials_are_made_in_each_bracket_as_was_told(search: str) -> None:
    given = config(search, max_trials=50, **({"num_rungs": 3} if search == "asha" else {}))
    result = mt.simulate(given, lambda hparams, units: hparams["lr"], slots=3)
    made = [trial.bracket for trial in result.trials]
    assert [made.count(index) for index in range(max(made) + 1)] == [
        bracket.trials[0] for bracket in preview(given).brackets
    ]


# ---- the estimate


@pytest.mark.parametrize(
    ("slots", "seconds"), [(1, 20 * 64 * 0.5), (4, 5 * 64 * 0.5), (6, 4 * 64 * 0.5), (99, 2 * 64 * 0.5)]
)
def test_the_estimate_is_that_of_the_plan_on_so_many_slots(slots: int, seconds: float) -> None:
    found = preview(config("random", max_trials=20), slots=slots, seconds_per_unit=0.5)
    assert found.to_json()["estimated_seconds"] == seconds


def test_without_judging_the_estimate_is_what_a_simulation_takes() -> None:
    given = config("grid", max_concurrent_trials=3)
    given["hyperparameters"]["lr"] = LR | {"count": 10}
    simulated = mt.simulate(given, lambda hparams, units: 0.0, slots=7, seconds_per_unit=2.0)
    assert preview(given, slots=7, seconds_per_unit=2.0).estimated_seconds == simulated.seconds


@pytest.mark.parametrize("at_once", [1, 2, 5, 40])
def test_a_plan_takes_no_less_than_its_work_and_no_more_than_one_by_one(at_once: int) -> None:
    brackets = preview(config("adaptive_asha", max_trials=30, max_concurrent_trials=at_once)).brackets
    total = preview(config("adaptive_asha", max_trials=30)).total_units
    assert max(total / at_once, 64) <= planned_duration(brackets, at_once) <= total / at_once + 64 * len(brackets)


def test_a_bracket_without_a_place_of_its_own_gets_those_of_the_others() -> None:
    brackets = [
        Bracket(rungs=(2, 8), trials=(3, 1), max_concurrent_trials=1),
        Bracket(rungs=(8,), trials=(2,), max_concurrent_trials=0),
    ]
    assert planned_duration(brackets, 9) == 2 + 2 + 8 + 8 + 8


def test_a_trial_takes_all_its_slots() -> None:
    given = {**config("random", max_trials=20), "resources": {"slots_per_trial": 2}}
    assert preview(given, slots=5, seconds_per_unit=1.0).estimated_seconds == 10 * 64
    with pytest.raises(UsageError, match="A trial takes 2 slots, and the experiment has 1"):
        preview(given, slots=1, seconds_per_unit=1.0)


# ---- what is not planned


def test_a_searcher_without_a_plan_is_counted_in_a_simulation_and_that_is_said() -> None:
    found = preview(config("planless", 12, trials=40), slots=2, seconds_per_unit=1.0)
    (bracket,) = found.brackets
    assert bracket.rungs == (4, 12)
    assert bracket.trials[0] == found.trials == 40
    assert 5 < bracket.trials[1] < 35
    assert found.lengths == {4: 40 - bracket.trials[1], 12: bracket.trials[1]}
    assert found.max_concurrent_trials == 40
    assert found.total_units / 2 <= (found.estimated_seconds or 0) <= found.total_units / 2 + 12
    (note,) = found.notes
    assert "'planless' tells no plan" in note
    assert "random metrics" in note
    assert preview(config("planless", 12, trials=40)).estimated_seconds is None


def test_a_searcher_without_a_plan_and_without_an_end_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview_module, "_MOST_EVENTS", 1000)
    with pytest.raises(PluginError, match="did not come to an end within 1,000 validations"):
        preview(config("planless", 12, trials=0))


def test_a_searcher_that_fails_at_its_plan_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Planless, "brackets", lambda self: {}["rungs"])
    with pytest.raises(PluginError, match="The searcher 'planless' failed in brackets: KeyError"):
        preview(config("planless", 12, trials=4))


def test_without_a_length_nothing_can_be_told() -> None:
    with pytest.raises(UsageError, match=r"does not tell how long a trial trains\. Give searcher\.max_length"):
        preview(config("random", None, max_trials=4))


@pytest.mark.parametrize(
    ("search", "trials", "said"),
    [
        ({"name": "random", "max_trials": 9}, 6, "only 6 different points, fewer than max_trials, 9: the search ends"),
        ({"name": "asha", "max_trials": 9, "num_rungs": 2}, 9, "fewer than max_trials, 9: some come again"),
        ({"name": "random", "max_trials": 6}, 6, None),
        ({"name": "grid"}, 6, None),
    ],
)
def test_a_space_that_is_too_small_is_told(search: dict[str, Any], trials: int, said: str | None) -> None:
    given = config(**search)
    given["hyperparameters"] = {
        "a": {"type": "int", "minval": 1, "maxval": 3, "count": 3},
        "b": {"type": "categorical", "vals": [1, 2]},
    }
    found = preview(given)
    assert found.trials == trials
    assert len(found.notes) == (said is not None)
    assert said is None or said in found.notes[0]
