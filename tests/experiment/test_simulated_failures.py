"""`mt.simulate`: objectives that fail, what cannot be simulated, searchers that break a rule."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import mnist_trials as mt
from mnist_trials.config import load
from mnist_trials.errors import ConfigError, PluginError, UsageError
from mnist_trials.experiment.simulation.records import Conditions
from mnist_trials.experiment.simulation.search import Simulation
from mnist_trials.plugin import Action, Create, Pause, Resume, Shutdown, Stop
from tests.experiment.simulated import BEGIN, DONE, Told, config, play


def test_an_exception_of_the_objective_fails_its_trial_and_is_kept() -> None:
    def objective(hparams: dict[str, Any], units: int) -> float:
        if hparams["id"] == 1:
            raise ZeroDivisionError("no way")
        if hparams["id"] == 2:
            raise mt.InvalidHP("too wide")
        return 0.5

    result = play({BEGIN: [Create({"id": number}) for number in (1, 2, 3)]}, objective=objective)
    assert [trial.state for trial in result.trials] == ["ERROR", "ERROR", "COMPLETED"]
    assert [type(trial.error) for trial in result.trials] == [ZeroDivisionError, mt.InvalidHP, type(None)]
    failures = [(decision.trial_id, decision.reason) for decision in result.decisions if decision.reason]
    assert failures == [(1, "error"), (2, "invalid_hp")]
    assert (result.state, result.best, result.message) == ("COMPLETED", result.trials[2], "")


def test_if_every_trial_fails_the_result_says_of_what() -> None:
    result = play({BEGIN: [Create(), Create()]}, objective=lambda hparams, units: hparams["no such"])
    assert result.state == "ERROR"
    assert result.message == "every trial failed; trial 1: KeyError: 'no such'"


def test_invalid_hyperparameters_are_replaced_for_a_while() -> None:
    def objective(hparams: dict[str, Any], units: int) -> float:
        raise mt.InvalidHP("never")

    result = mt.simulate(config(name="random", searcher={"max_trials": 4}), objective)
    assert result.state == "ERROR"
    assert "5 trials had invalid hyperparameters" in result.message


def test_a_search_without_any_trial_is_an_error() -> None:
    result = play({BEGIN: [Shutdown()]})
    assert (result.state, result.message, result.seconds) == ("ERROR", "the searcher created no trial", 0.0)


@pytest.mark.parametrize("value", [None, "good", [1.0]])
def test_an_objective_that_returns_no_number_is_told_so(value: Any) -> None:
    with pytest.raises(UsageError, match=r"for trial 1 at 12 units; it must return a number"):
        mt.simulate(config(), lambda hparams, units: value)


@pytest.mark.parametrize(
    ("rest", "options", "message"),
    [
        ({"length": None}, {}, "does not tell how long a trial trains"),
        ({"resources": {"slots_per_trial": 3}}, {"slots": 2}, "A trial takes 3 slots, and the experiment has 2"),
        ({}, {"slots": 0}, "A trial takes 1 slot, and the experiment has 0"),
        ({}, {"slots": 1.5}, r"slots must be a whole number of at least 1, not 1\.5"),
        ({}, {"seconds_per_unit": 0}, "seconds_per_unit must be a number above 0, not 0"),
        ({}, {"seconds_per_unit": math.nan}, "not nan"),
        ({}, {"seed": -1}, "experiment_seed"),
    ],
)
def test_what_cannot_be_simulated_is_told(rest: Any, options: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        mt.simulate(config(**rest), lambda hparams, units: 0.0, **options)


def test_a_searcher_that_is_unknown_is_told_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "search.yaml"
    path.write_text("entrypoint: python3 train.py\nsearcher:\n  name: rendom\n  metric: loss\n  max_trials: 3\n")
    with pytest.raises(ConfigError, match=r"search\.yaml:3:\d+: No searcher is named 'rendom'\. Did you mean 'random'"):
        mt.simulate(path, lambda hparams, units: 0.0)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ({BEGIN: [Create(), Stop(2)]}, "Stop.* of 1 trials"),
        ({BEGIN: ["Stop"]}, "not an action"),
        ({BEGIN: [Create({"lr": math.nan})]}, "no strict JSON"),
        ({BEGIN: [Create(until=0)]}, "until must be a whole number"),
        ({BEGIN: [Create(), Create(source=1)]}, "trial 1, which was never validated"),
        ({BEGIN: [Create(), Resume(1, 3)]}, "of a trial that it has not paused"),
        ({BEGIN: [Create(), Pause(1), Pause(1)]}, "of a trial that it has paused"),
        ({BEGIN: [Create(), Stop(1), Pause(1)]}, "of a trial that it has stopped"),
        ({BEGIN: [Create()], ("trial_exited", 1): [Pause(1)]}, "of a trial that has ended"),
        ({BEGIN: [Create(until=4)], (DONE, 1, 4): [Pause(1), Resume(1, 4)]}, "of a trial that has 4 units"),
        ({BEGIN: [Create(), Shutdown(), Create()]}, "after it has shut down"),
        ({BEGIN: [Create(until=4)], (DONE, 1, 4): [Pause(1)]}, "paused 1 trials, nothing else is left to run"),
    ],
)
def test_a_searcher_that_breaks_a_rule_is_told(script: Any, message: str) -> None:
    with pytest.raises(PluginError, match=f"The searcher 'single' .*{message}"):
        play(script)


def test_what_a_searcher_raises_names_it() -> None:
    make = lambda: Told(lambda *event: 1 / 0)  # type: ignore[arg-type, return-value]  # noqa: E731
    with pytest.raises(PluginError, match=r"'single' failed in initial_trials: ZeroDivisionError: division by zero"):
        Simulation(load(config()).config, lambda hparams, units: 0.0, make=make).run()


class Interrupted(Conditions):
    """Paused after every event."""

    def interrupted(self) -> bool:
        return True


def test_a_searcher_that_decides_otherwise_when_it_is_restored_is_found() -> None:
    answers: Iterator[Sequence[Action]] = iter([[Create(until=3)], [Pause(1), Resume(1, 5)], [Create()]])
    make = lambda: Told(lambda *event: next(answers))  # noqa: E731
    with pytest.raises(PluginError, match="decides otherwise when it is restored"):
        Simulation(load(config()).config, lambda hparams, units: 0.0, conditions=Interrupted(), make=make).run()
