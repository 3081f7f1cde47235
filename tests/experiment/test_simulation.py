"""`mt.simulate`: searches on a simulated clock."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

import mnist_trials as mt
from mnist_trials.config import load, sample
from mnist_trials.errors import ConfigError, PluginError, UsageError
from mnist_trials.experiment.simulation.records import Conditions, SimulatedTrial, SimulationResult
from mnist_trials.experiment.simulation.search import Simulation
from mnist_trials.plugin import Action, Create, Pause, Resume, Searcher, SearcherContext, Shutdown, Stop

LR = {"type": "double", "minval": 0.0, "maxval": 1.0}


def config(*, length: object = 12, name: str = "single", **rest: Any) -> dict[str, Any]:
    """A config; `searcher` and other sections in `rest` come on top."""
    searcher = {"name": name, "metric": "loss", "max_length": length, **rest.pop("searcher", {})}
    return {"entrypoint": "python3 train.py", "hyperparameters": {"lr": LR}, "searcher": searcher, **rest}


class Told(Searcher):
    """Answers as `answer` says: from the event, the trial, and what else is told of it."""

    def __init__(self, answer: Callable[..., Sequence[Action]]) -> None:
        self.answer = answer

    def initial_trials(self, ctx: SearcherContext) -> Sequence[Action]:
        return self.answer("initial_trials", 0)

    def validation_completed(self, ctx: SearcherContext, trial_id: int, units: int, metric: Any) -> Sequence[Action]:
        return self.answer("validation_completed", trial_id, units)

    def trial_exited(self, ctx: SearcherContext, trial_id: int) -> Sequence[Action]:
        return self.answer("trial_exited", trial_id)

    def trial_failed(self, ctx: SearcherContext, trial_id: int, reason: str) -> Sequence[Action]:
        return self.answer("trial_failed", trial_id, reason)

    def progress(self) -> float:
        return 0.0

    def snapshot(self) -> dict[str, Any]:
        return {}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        pass


def play(
    script: Mapping[tuple[Any, ...], Sequence[Action]],
    *,
    slots: int = 1,
    conditions: Conditions | None = None,
    objective: Callable[[dict[str, Any], int], float] = lambda hparams, units: 1 / units,
    **rest: Any,
) -> SimulationResult:
    """A simulation with a searcher that answers by `script` and else not at all."""
    given = load(config(**rest)).config
    make = lambda: Told(lambda *event: script.get(event, ()))  # noqa: E731
    return Simulation(given, objective, slots=slots, conditions=conditions, make=make).run()


BEGIN, DONE = ("initial_trials", 0), "validation_completed"


# ---- what comes out


def test_a_trial_is_validated_by_the_period_and_at_its_end() -> None:
    result = mt.simulate(config(min_validation_period={"batches": 5}), lambda hparams, units: 1 / units)
    assert result.timeline == [(5.0, 1, 5, 1 / 5), (10.0, 1, 10, 1 / 10), (12.0, 1, 12, 1 / 12)]
    (trial,) = result.trials
    assert trial.metrics == [(5, 1 / 5), (10, 1 / 10), (12, 1 / 12)]
    assert (trial.trial_id, trial.units, trial.bracket, trial.state) == (1, 12, 0, "COMPLETED")
    assert (trial.stopped_early, trial.error, trial.source) == (False, None, None)
    assert result.best is trial
    assert (result.best_metric, result.total_units, result.seconds, result.state) == (1 / 12, 12, 12.0, "COMPLETED")
    events = [(decision.time, decision.event, decision.trial_id, decision.units) for decision in result.decisions]
    assert events[0] == (0.0, "initial_trials", None, None)
    assert events[1:] == [
        (5.0, "validation_completed", 1, 5),
        (10.0, "validation_completed", 1, 10),
        (12.0, "validation_completed", 1, 12),
        (12.0, "trial_exited", 1, None),
    ]
    assert result.decisions[0].actions == (Create(),)
    assert result.decisions[-1].actions == (Shutdown(),)


@pytest.mark.parametrize(
    ("length", "period", "units"),
    [
        ({"epochs": 4}, {"batches": 1}, [4]),
        ({"epochs": 4}, {"epochs": 3}, [3, 4]),
        (6, [{"batches": 1}, {"batches": 4}, {"epochs": 5}], [1, 4, 6]),
    ],
)
def test_only_a_period_in_the_unit_of_the_searcher_counts(length: object, period: object, units: list[int]) -> None:
    result = mt.simulate(config(length=length, min_validation_period=period), lambda hparams, units: units)
    assert [entry[2] for entry in result.timeline] == units


def test_max_time_is_a_length_too() -> None:
    given = config(length=None, searcher={"max_time": 7, "time_metric": "seconds"})
    assert mt.simulate(given, lambda hparams, units: units, seconds_per_unit=2).seconds == 14.0


def test_hyperparameters_are_those_of_the_trials_number_and_the_seed(tmp_path: Path) -> None:
    given = config(name="random", searcher={"max_trials": 3}, reproducibility={"experiment_seed": 5})
    path = tmp_path / "search.yaml"
    path.write_text(json.dumps(given))
    asked: list[Any] = []
    result = mt.simulate(path, lambda hparams, units: asked.append(hparams) or 0.0)
    expected = [sample({"lr": LR}, 5, number) for number in (1, 2, 3)]
    assert [trial.hyperparameters for trial in result.trials] == asked == expected
    other = mt.simulate(given, lambda hparams, units: 0.0, seed=6)
    assert [trial.hyperparameters for trial in other.trials] == [sample({"lr": LR}, 6, number) for number in (1, 2, 3)]
    assert other == mt.simulate(given, lambda hparams, units: 0.0, seed=6)


def test_the_objective_cannot_change_what_is_on_record() -> None:
    result = mt.simulate(config(), lambda hparams, units: hparams.pop("lr"), seed=3)
    assert result.trials[0].hyperparameters == sample({"lr": LR}, 3, 1)


@pytest.mark.parametrize("smaller", [True, False])
def test_the_best_is_the_best_validation_of_all_and_the_first_of_equals(smaller: bool) -> None:
    values = {1: [5.0, 3.0], 2: [4.0, 6.0], 3: [3.0, 6.0], 4: [math.nan, math.inf]}
    script = {BEGIN: [Create({"id": number}) for number in values]}
    result = play(
        script,
        objective=lambda hparams, units: values[hparams["id"]][units > 6],
        slots=2,
        min_validation_period=6,
        searcher={"smaller_is_better": smaller},
    )
    assert result.best is result.trials[0 if smaller else 1]
    assert result.best_metric == (3.0 if smaller else 6.0)
    assert result.trials[3].metrics == [(6, None), (12, None)]


def test_without_a_finite_metric_there_is_no_best() -> None:
    result = mt.simulate(config(), lambda hparams, units: -math.inf)
    assert (result.best, result.best_metric, result.state) == (None, None, "COMPLETED")
    assert [decision.metric for decision in result.decisions if decision.event == DONE] == [None]


# ---- slots and time


@pytest.mark.parametrize(
    ("slots", "rest", "seconds"),
    [
        (1, {}, 60.0),
        (2, {}, 36.0),
        (5, {}, 12.0),
        (99, {}, 12.0),
        (99, {"searcher": {"max_concurrent_trials": 2}}, 36.0),
        (99, {"resources": {"max_slots": 3}}, 24.0),
        (5, {"resources": {"slots_per_trial": 2}}, 36.0),
    ],
)
def test_as_many_trials_run_at_once_as_slots_and_bounds_allow(slots: int, rest: Any, seconds: float) -> None:
    given = config(name="random", **{**rest, "searcher": {"max_trials": 5, **rest.get("searcher", {})}})
    result = mt.simulate(given, lambda hparams, units: 0.0, slots=slots)
    assert (result.seconds, result.total_units, len(result.trials)) == (seconds, 60, 5)


def test_trials_that_wait_start_in_the_order_of_their_ids() -> None:
    result = play({BEGIN: [Create() for _ in range(7)]}, slots=2)
    assert [trial_id for _, trial_id, _, _ in result.timeline] == list(range(1, 8))


class Slow(Conditions):
    """Trial 1 takes four times as long."""

    def seconds_per_unit(self, trial_id: int) -> float:
        return 4.0 if trial_id == 1 else 1.0


def test_a_trial_stopped_while_it_trains_has_trained_whole_units_and_frees_its_slot_at_once() -> None:
    script = {BEGIN: [Create(), Create(), Create()], (DONE, 2, 6): [Stop(1)]}
    result = play(script, slots=2, conditions=Slow(), min_validation_period=6)
    stopped = result.trials[0]
    assert (stopped.units, stopped.stopped_early, stopped.state, stopped.metrics) == (1, True, "COMPLETED", [])
    assert [(time, trial_id) for time, trial_id, _, _ in result.timeline] == [(6, 2), (12, 2), (12, 3), (18, 3)]
    assert result.total_units == 25
    assert [decision.trial_id for decision in result.decisions if decision.event == "trial_exited"] == [1, 2, 3]


def test_a_trial_stopped_while_it_waits_never_runs() -> None:
    result = play({BEGIN: [Create(), Create(), Create()], (DONE, 1, 12): [Stop(2), Stop(1)]})
    assert [trial.units for trial in result.trials] == [12, 0, 12]
    assert [trial.stopped_early for trial in result.trials] == [True, True, False]


def test_a_stop_of_a_trial_that_has_ended_by_itself_is_no_mistake() -> None:
    assert play({BEGIN: [Create(), Create()], (DONE, 2, 12): [Stop(1)]}).trials[0].stopped_early is False


# ---- trials that are held


def test_a_trial_of_which_nothing_is_said_ends_where_it_was_to_ask() -> None:
    result = play({BEGIN: [Create(until=5), Create(until=99)]})
    assert [(trial.units, trial.stopped_early) for trial in result.trials] == [(5, False), (12, False)]
    assert [units for _, _, units, _ in result.timeline] == [5, 12]


def test_a_trial_that_is_paused_and_resumed_in_one_answer_keeps_its_slot() -> None:
    script = {
        BEGIN: [Create(until=3), Create(until=3)],
        (DONE, 1, 3): [Pause(1), Resume(1, 8)],
        (DONE, 1, 8): [Pause(1), Resume(1, 12)],
    }
    assert play(script).timeline == [(3, 1, 3, 1 / 3), (8, 1, 8, 1 / 8), (12, 1, 12, 1 / 12), (15, 2, 3, 1 / 3)]


def test_a_trial_that_is_paused_gives_way_and_goes_on_when_there_is_room_again() -> None:
    script = {
        BEGIN: [Create(until=3), Create(until=3), Create()],
        (DONE, 1, 3): [Pause(1)],
        (DONE, 2, 3): [Pause(2), Resume(1, 12)],
        ("trial_exited", 3): [Resume(2, 4)],
    }
    result = play(script)
    assert [(time, trial_id, units) for time, trial_id, units, _ in result.timeline] == [
        (3, 1, 3),
        (6, 2, 3),
        (15, 1, 12),
        (27, 3, 12),
        (28, 2, 4),
    ]
    assert result.total_units == 28


def test_a_trial_may_be_paused_while_it_trains_or_waits() -> None:
    script = {
        BEGIN: [Create(), Create(), Create()],
        (DONE, 2, 6): [Pause(1), Pause(3)],
        (DONE, 2, 12): [Resume(3, 12), Resume(1, 12)],
    }
    result = play(script, slots=2, conditions=Slow(), min_validation_period=6)
    # Trial 1 had one unit and half a second one when it was paused.
    assert [(time, trial_id, units) for time, trial_id, units, _ in result.timeline] == [
        (6, 2, 6),
        (12, 2, 12),
        (18, 3, 6),
        (24, 3, 12),
        (32, 1, 6),
        (56, 1, 12),
    ]


def test_a_trial_that_trains_may_be_given_another_end() -> None:
    script = {BEGIN: [Create(until=9), Create()], (DONE, 2, 6): [Pause(1), Resume(1, 3)]}
    result = play(script, slots=2, conditions=Slow(), min_validation_period=6)
    assert [entry[:3] for entry in result.timeline] == [(6, 2, 6), (12, 1, 3), (12, 2, 12)]


def test_trials_that_arrive_together_are_all_validated_whatever_becomes_of_them_in_between() -> None:
    script = {BEGIN: [Create(until=4), Create(until=4)], (DONE, 1, 4): [Pause(2), Resume(2, 8)]}
    assert play(script, slots=2).trials[1].metrics == [(8, 1 / 8)]
    script = {BEGIN: [Create(), Create()], (DONE, 1, 4): [Pause(2), Resume(2, 8)]}
    assert [units for units, _ in play(script, slots=2, min_validation_period=4).trials[1].metrics] == [4, 8]


def test_the_shutdown_ends_those_that_rest_and_lets_the_others_finish() -> None:
    script = {
        BEGIN: [Create(until=3), Create(), Create(until=3)],
        (DONE, 1, 3): [Pause(1)],
        (DONE, 3, 3): [Pause(3), Shutdown("enough")],
    }
    result = play(script, slots=2)
    assert [(trial.units, trial.stopped_early) for trial in result.trials] == [(3, True), (12, False), (3, True)]
    assert {trial.state for trial in result.trials} == {"COMPLETED"}
    assert [decision.trial_id for decision in result.decisions if decision.event == "trial_exited"] == [2]
    assert result.message == "enough"


def test_a_trial_with_a_source_has_the_training_of_its_weights_on_top() -> None:
    script = {
        BEGIN: [Create(until=3)],
        (DONE, 1, 3): [Create({"copy": 1}, until=4, source=1)],
        (DONE, 2, 4): [Create(source=2)],
    }
    result = play(script, objective=lambda hparams, units: units)
    assert [(trial.source, trial.inherited, trial.units) for trial in result.trials] == [
        (None, 0, 3),
        (1, 3, 4),
        (2, 7, 12),
    ]
    assert [trial.metrics for trial in result.trials] == [[(3, 3.0)], [(4, 7.0)], [(12, 19.0)]]
    assert result.total_units == 19


# ---- failures


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


# ---- large searches in which everything happens

SEARCHES: dict[str, dict[str, Any]] = {
    "random": {"name": "random"},
    "asha": {"name": "asha", "num_rungs": 5},
    "asha, promoting": {"name": "asha", "num_rungs": 5, "stop_once": False},
    "adaptive_asha": {"name": "adaptive_asha", "mode": "conservative"},
    "adaptive_asha, promoting": {"name": "adaptive_asha", "stop_once": False},
}


class Turmoil(Conditions):
    """Trials of any speed that fail and exit, an experiment that is paused now and then, and a watch on the slots."""

    def __init__(self, seed: int, at_once: int, trials: int) -> None:
        self.dice = Random(seed)
        self.at_once = at_once
        self.chance = 30 / trials  # of a pause; each costs as much as the whole state of the searcher is large
        self.on: set[int] = set()
        self.most = 0
        self.pauses = 0

    def seconds_per_unit(self, trial_id: int) -> float:
        return math.exp(self.dice.gauss(0, 1))

    def fate(self, trial_id: int, units: int) -> Any:
        return self.dice.choices([None, "exit", "error", "invalid_hp"], [90, 4, 3, 3])[0]

    def interrupted(self) -> bool:
        paused = self.dice.random() < self.chance
        self.pauses += paused
        return paused

    def on_slots(self, time: float, trial_id: int, *, begins: bool) -> None:
        if begins:
            assert trial_id not in self.on
            self.on.add(trial_id)
            self.most = max(self.most, len(self.on))
            assert len(self.on) <= self.at_once, "slots are oversold"
        else:
            self.on.remove(trial_id)


def disturbed(search: str, trials: int, *, smaller: bool = True, seed: int = 1) -> tuple[SimulationResult, Turmoil]:
    """A search on 30 slots, of which a trial takes two."""
    searcher = {**SEARCHES[search], "max_trials": trials, "max_concurrent_trials": 0, "smaller_is_better": smaller}
    given = config(length=256, searcher=searcher, resources={"slots_per_trial": 2}, min_validation_period=150)
    dice, turmoil = Random(seed), Turmoil(seed, 15, trials)

    def objective(hparams: dict[str, Any], units: int) -> float:
        return math.nan if dice.random() < 0.02 else hparams["lr"] + dice.random() / units

    return Simulation(load(given).config, objective, slots=30, conditions=turmoil).run(), turmoil


def check(result: SimulationResult, trials: int, *, smaller: bool = True) -> None:
    """All that is true of any search."""
    states = Counter(trial.state.value for trial in result.trials)
    assert set(states) <= {"COMPLETED", "ERROR"}
    assert [trial.trial_id for trial in result.trials] == list(range(1, len(result.trials) + 1))
    invalid = sum(decision.reason == "invalid_hp" for decision in result.decisions)
    assert trials <= len(result.trials) <= trials + invalid
    assert result.total_units == sum(trial.units for trial in result.trials)
    assert all(first[0] <= second[0] for first, second in itertools.pairwise(result.timeline))
    assert result.timeline[-1][0] <= result.seconds
    by_trial: dict[int, list[tuple[int, float | None]]] = {}
    for _, trial_id, units, value in result.timeline:
        by_trial.setdefault(trial_id, []).append((units, value))
    for trial in result.trials:
        assert by_trial.get(trial.trial_id, []) == trial.metrics
        assert is_rising(trial)
    check_decisions(result)
    finite = [(value, trial.trial_id) for trial in result.trials for _, value in trial.metrics if value is not None]
    best = min(finite) if smaller else max(finite, key=lambda entry: (entry[0], -entry[1]))
    assert result.best is result.trials[best[1] - 1]
    assert result.best_metric == best[0]


def is_rising(trial: SimulatedTrial) -> bool:
    units = [0, *(units for units, _ in trial.metrics)]
    return all(first < second for first, second in itertools.pairwise(units)) and trial.units >= units[-1]


def check_decisions(result: SimulationResult) -> None:
    """Every validation and every end of a trial was told once; what was made and stopped is what was decided."""
    told = [(decision.time, decision.trial_id, decision.units, decision.metric) for decision in result.decisions]
    counts = Counter(decision.event for decision in result.decisions)
    assert [entry for entry, decision in zip(told, result.decisions, strict=True) if decision.event == DONE] == [
        tuple(entry) for entry in result.timeline
    ]
    failed = sum(trial.state == "ERROR" for trial in result.trials)
    assert counts["trial_failed"] == failed
    actions = [action for decision in result.decisions for action in decision.actions]
    assert sum(isinstance(action, Create) for action in actions) == len(result.trials)
    stopped = {action.trial_id for action in actions if isinstance(action, Stop)}
    resting = len(result.trials) - failed - counts["trial_exited"]  # ended by the shutdown, which is not told
    assert sum(trial.stopped_early for trial in result.trials) == len(stopped) + resting
    assert isinstance(actions[-1], Shutdown)
    assert sum(isinstance(action, Shutdown) for action in actions) == 1


def test_code_that_cannot_be_imported_is_not_looked_at() -> None:
    given = {
        "entrypoint": "no_such_module:Trial",
        "searcher": {"name": "random", "metric": "loss", "max_trials": 3, "max_length": 4},
        "hyperparameters": {"lr": LR},
    }
    assert mt.simulate(given, lambda hparams, units: 0.0).total_units == 12


@pytest.mark.parametrize("search", SEARCHES)
def test_a_large_search_in_which_everything_happens(search: str) -> None:
    result, turmoil = disturbed(search, 10_000)
    check(result, 10_000)
    assert turmoil.most == 15
    assert not turmoil.on
    assert turmoil.pauses > 10
    assert result.state == "COMPLETED"


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("smaller", [True, False])
def test_the_same_seed_gives_the_same_search(search: str, smaller: bool) -> None:
    first, _ = disturbed(search, 500, smaller=smaller)
    second, _ = disturbed(search, 500, smaller=smaller)
    assert first == second
    check(first, 500, smaller=smaller)
    assert disturbed(search, 500, smaller=smaller, seed=2)[0] != first


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("seed", range(10))
def test_small_searches_in_which_everything_happens(search: str, seed: int) -> None:
    result, _ = disturbed(search, 1 + 3 * seed, seed=seed)
    assert all(trial.state.ended for trial in result.trials)


@pytest.mark.slow
@pytest.mark.parametrize("search", SEARCHES)
def test_a_search_of_a_hundred_thousand_trials(search: str) -> None:
    result, turmoil = disturbed(search, 100_000)
    check(result, 100_000)
    assert turmoil.most == 15
