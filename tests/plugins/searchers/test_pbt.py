from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest

from mnist_trials.config import load, sample
from mnist_trials.errors import ConfigError
from mnist_trials.plugin import (
    Action,
    Create,
    Judgement,
    Pause,
    Resume,
    Searcher,
    SearcherContext,
    Shutdown,
    Stop,
    get_plugins,
)
from mnist_trials.testing import SearcherSuite
from tests.integration.support import Command, write_config

HYPERPARAMETERS: dict[str, Any] = {
    "lr": {"type": "log", "base": 10.0, "minval": -4.0, "maxval": -1.0},
    "net": {
        "layers": {"type": "int", "minval": -3, "maxval": 40},
        "act": {"type": "categorical", "vals": ["relu", ["a", "b"], None]},
    },
    "momentum": {"type": "double", "minval": -0.5, "maxval": 0.9},
    "size": 3,
}
CONTEXT = SearcherContext(experiment_seed=5, sample=lambda index: sample(HYPERPARAMETERS, 5, index))


class PbtSuite(SearcherSuite):
    plugin = "pbt"
    mine: ClassVar[Mapping[str, Any]] = {}

    def config(self) -> Mapping[str, Any]:
        rounds = {"population_size": 5, "num_rounds": 4, "length_per_round": {"batches": self.length // 4}}
        return {**super().config(), **rounds, **self.mine}


class TestPbt(PbtSuite):
    pass


class TestPbtWithMorePopulationThanPlaces(PbtSuite):
    mine: ClassVar[Mapping[str, Any]] = {
        "max_concurrent_trials": 2,
        "replace_function": {"truncate_fraction": 0.5},
    }


class TestPbtWithOneRound(PbtSuite):
    mine: ClassVar[Mapping[str, Any]] = {"num_rounds": 1, "length_per_round": {"batches": 12}}


del PbtSuite  # has no tests of its own


def pbt(**changes: Any) -> Searcher:
    config = {
        "metric": "loss",
        "smaller_is_better": True,
        "population_size": 6,
        "num_rounds": 3,
        "length_per_round": {"batches": 10},
        "max_length": {"batches": 30},
        "replace_function": {"truncate_fraction": 0.34},
        **changes,
    }
    searcher: Searcher = get_plugins().find("searcher", "pbt").factory(config, HYPERPARAMETERS)
    return searcher


@dataclass
class Population:
    """A search in which every action is carried out at once."""

    searcher: Searcher
    until: dict[int, int | None] = field(default_factory=dict)  # of each trial that can train
    resting: set[int] = field(default_factory=set)
    hparams: dict[int, Any] = field(default_factory=dict)
    created: dict[int, Create] = field(default_factory=dict)
    most_at_once: int = 0

    @property
    def training(self) -> list[int]:
        return sorted(set(self.until) - self.resting)

    def begin(self) -> list[Action]:
        return self.done(self.searcher.initial_trials(CONTEXT))

    def report(self, trial_id: int, metric: float | None, units: int | None = None) -> list[Action]:
        units = units or self.until[trial_id] or 0
        return self.done(self.searcher.validation_completed(CONTEXT, trial_id, units, metric))

    def fail(self, trial_id: int, reason: str = "error") -> list[Action]:
        self.gone(trial_id)
        return self.done(self.searcher.trial_failed(CONTEXT, trial_id, reason))

    def exit(self, trial_id: int) -> list[Action]:
        self.gone(trial_id)
        return self.done(self.searcher.trial_exited(CONTEXT, trial_id))

    def gone(self, trial_id: int) -> None:
        del self.until[trial_id]
        self.resting.discard(trial_id)

    def done(self, actions: Any) -> list[Action]:
        for action in actions:
            match action:
                case Create():
                    trial_id = len(self.created) + 1
                    self.created[trial_id], self.until[trial_id] = action, action.until
                    self.hparams[trial_id] = action.hparams or CONTEXT.sample(trial_id)
                case Stop():
                    self.gone(action.trial_id)
                case Pause():
                    assert action.trial_id not in self.resting
                    self.resting.add(action.trial_id)
                case Resume():
                    self.resting.remove(action.trial_id)
                    assert action.until > (self.until[action.trial_id] or 0)
                    self.until[action.trial_id] = action.until
        self.most_at_once = max(self.most_at_once, len(self.until) - len(self.resting))
        for trial_id in [action.trial_id for action in actions if isinstance(action, Stop)]:
            assert self.searcher.trial_exited(CONTEXT, trial_id) == []
        return list(actions)


@pytest.fixture
def population() -> Population:
    """Six trials that have begun."""
    population = Population(pbt())
    assert population.begin() == [Create(until=10)] * 6
    return population


def test_the_worst_third_gives_way_to_copies_of_the_best_third(population: Population) -> None:
    for trial_id, metric in ((1, 0.5), (2, None), (3, 0.1), (4, 0.3)):
        assert population.report(trial_id, metric) == [Pause(trial_id)]
    assert population.report(6, 0.9) == [Pause(6)]
    actions = population.report(5, 0.2)
    kept = {"bracket": 0, "rung": 0, "units": 10, "of": 6, "kept": 4, "threshold": 0.5}
    assert actions[:2] == [Stop(6, Judgement(rank=5, **kept)), Stop(2, Judgement(rank=6, **kept))]
    copies = [action for action in actions if isinstance(action, Create)]
    assert actions[2:4] == copies
    assert {copy.source for copy in copies} <= {3, 5}
    assert {copy.until for copy in copies} == {10}
    rank = {3: 1, 5: 2}[copies[0].source or 0]
    assert copies[0].why == f"a copy of trial {copies[0].source}, which had rank {rank} at rung 0"
    # The one that reported last keeps its slot.
    assert actions[4:] == [Resume(3, 20), Pause(5), Resume(5, 20), Resume(4, 20), Resume(1, 20)]


def test_a_last_report_that_is_the_worst_is_stopped_without_a_pause(population: Population) -> None:
    for trial_id in range(1, 6):
        population.report(trial_id, 0.1)
    actions = population.report(6, None)
    assert [type(action) for action in actions] == [Stop, Stop, Create, Create, *[Resume] * 4]
    assert [action.trial_id for action in actions if isinstance(action, Stop)] == [5, 6]  # of equals, the later report


def test_where_more_is_better_the_smallest_gives_way() -> None:
    population = Population(pbt(smaller_is_better=False, replace_function={"truncate_fraction": 0.1}))
    population.begin()
    for trial_id in range(1, 6):
        population.report(trial_id, trial_id / 10)
    (stop, *_) = population.report(6, 0.05)
    assert isinstance(stop, Stop)
    assert stop.trial_id == 6


def test_a_copy_trains_for_the_rounds_that_remain_and_counts_from_nothing() -> None:
    population = Population(pbt())
    population.begin()
    lengths: dict[int, int] = {}
    for number in range(3):
        assert population.searcher.progress() == pytest.approx(number / 3)
        for trial_id in list(population.until):
            lengths[trial_id] = population.until[trial_id] or 0
            actions = population.report(trial_id, float(trial_id))
    assert actions == [Shutdown()]
    assert population.searcher.progress() == 1.0
    assert lengths == {1: 30, 2: 30, 3: 30, 4: 30, 5: 10, 6: 10, 7: 10, 8: 10, 9: 10, 10: 10}
    assert population.searcher.validate_at(1) == (10, 20, 30)
    assert population.searcher.validate_at(10) == (10,)
    assert [population.exit(trial_id) for trial_id in list(population.until)] == [[]] * 6


def test_the_plan_has_as_many_trials_and_units_as_the_search() -> None:
    (bracket,) = pbt().brackets() or ()
    assert (bracket.rungs, bracket.trials, bracket.max_concurrent_trials) == ((10, 20, 30), (10, 4, 4), 6)
    reached = list(bracket.trials)
    units = sum(10 * trials for trials in reached)
    assert units == 6 * 30
    (alone,) = pbt(num_rounds=1, max_concurrent_trials=2).brackets() or ()
    assert (alone.rungs, alone.trials, alone.max_concurrent_trials) == ((10,), (6,), 2)


def test_validations_on_the_way_are_not_judged(population: Population) -> None:
    assert population.report(1, 0.1, units=4) == []
    assert population.searcher.progress() == 0.0
    assert population.report(1, 0.2, units=10) == [Pause(1)]


def test_one_that_was_validated_late_goes_on_from_there(population: Population) -> None:
    population.report(1, 0.0, units=24)
    for trial_id in range(2, 7):
        actions = population.report(trial_id, 0.5)
    assert Resume(1, 34) in actions


def test_one_that_failed_is_among_those_that_give_way(population: Population) -> None:
    for trial_id in range(1, 6):
        population.report(trial_id, trial_id / 10)
    actions = population.fail(6)
    assert [action.trial_id for action in actions if isinstance(action, Stop)] == [5]
    assert sum(isinstance(action, Create) for action in actions) == 2


@pytest.mark.parametrize("ending", ["exit", "fail"])
def test_one_that_ended_while_it_rested_is_replaced_and_never_resumed(population: Population, ending: str) -> None:
    for trial_id in range(1, 6):
        population.report(trial_id, trial_id / 10)
    assert getattr(population, ending)(1) == []
    actions = population.report(6, 0.6)
    assert 1 not in [action.trial_id for action in actions if isinstance(action, Resume | Stop)]
    assert {action.source for action in actions if isinstance(action, Create)} <= {2, 3}


def test_if_more_fail_than_would_give_way_all_are_replaced_and_nobody_else(population: Population) -> None:
    population.report(1, 0.5)
    population.report(2, 0.4)
    for trial_id in (3, 4, 5):
        assert population.fail(trial_id) == []
    actions = population.fail(6)
    assert [type(action) for action in actions] == [Create, Create, Create, Create, Resume, Resume]


def test_if_all_fail_the_search_ends_and_says_so(population: Population) -> None:
    for trial_id in range(1, 6):
        assert population.fail(trial_id) == []
    assert population.fail(6) == [Shutdown("no trial of the population came beyond rung 0")]
    assert population.searcher.progress() == 1.0


def test_invalid_hyperparameters_are_made_anew_at_once_and_not_without_end(population: Population) -> None:
    for _ in range(10):
        assert population.fail(max(population.until), "invalid_hp") == [Create(until=10)]
    (end,) = population.fail(max(population.until), "invalid_hp")
    assert end == Shutdown("more than 10 trials had invalid hyperparameters")
    assert population.report(1, 0.1) == []


def test_an_invalid_copy_is_another_copy_of_the_same_source(population: Population) -> None:
    for trial_id in range(1, 7):
        population.report(trial_id, trial_id / 10)
    first = population.created[7]
    (second,) = population.fail(7, "invalid_hp")
    assert isinstance(second, Create)
    assert (second.source, second.until) == (first.source, 10)
    assert second.hparams != first.hparams


@pytest.mark.parametrize(
    ("size", "fraction", "expected"), [(100, 0.29, 29), (4, 0.2, 1), (5, 0.2, 1), (5, 0, 0), (6, 0.5, 3)]
)
def test_how_many_give_way(size: int, fraction: float, expected: int) -> None:
    replace = {"truncate_fraction": fraction}
    population = Population(pbt(population_size=size, max_concurrent_trials=0, replace_function=replace))
    population.begin()
    actions = [population.report(trial_id, 0.5) for trial_id in population.training][-1]
    assert sum(isinstance(action, Stop) for action in actions) == expected
    assert sum(isinstance(action, Create) for action in actions) == expected


@pytest.mark.parametrize("places", [1, 2, 4])
def test_no_more_trials_train_at_once_than_may(places: int) -> None:
    population = Population(pbt(max_concurrent_trials=places))
    history = [population.begin()]
    while Shutdown() not in history[-1]:
        trial_id = population.training[-1]
        history.append(population.report(trial_id, (trial_id * 7 % 11) / 10))
        if history[-1] == []:  # nothing comes after the last round
            history.append(population.exit(trial_id))
    assert population.most_at_once == places
    assert len(population.created) == 10


def test_no_source_trains_on_before_its_copies_were_made() -> None:
    population = Population(pbt(max_concurrent_trials=1, replace_function={"truncate_fraction": 0.5}))
    population.begin()
    order: list[Action] = []
    while not any(isinstance(action, Resume) for action in order):
        (trial_id,) = population.training
        order += population.report(trial_id, float(trial_id))
    assert [type(action) for action in order if isinstance(action, Create | Resume)] == [Create] * 8 + [Resume]


def explored(factor: float, resample: float) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Hyperparameters of sources, and of their copies."""
    functions = {
        "replace_function": {"truncate_fraction": 0.5},
        "explore_function": {"resample_probability": resample, "perturb_factor": factor},
    }
    population = Population(pbt(population_size=80, max_concurrent_trials=0, **functions))
    population.begin()
    for trial_id in range(1, 81):
        population.report(trial_id, 0.5)
    copies = [(create.source, trial_id) for trial_id, create in population.created.items() if create.source]
    assert len(copies) == 40
    return [(population.hparams[source], population.hparams[trial_id]) for source, trial_id in copies]


def test_a_perturbed_value_moves_by_the_factor_within_its_range() -> None:
    ups = 0
    for source, copy in explored(factor=0.5, resample=0.0):
        assert copy["size"] == 3
        assert copy["net"]["act"] == source["net"]["act"]
        for name, low, high in (("lr", 1e-4, 1e-1), ("momentum", -0.5, 0.9)):
            wanted = [min(max(source[name] * times, low), high) for times in (0.5, 1.5)]
            assert copy[name] == pytest.approx(wanted[0]) or copy[name] == pytest.approx(wanted[1])
            ups += copy[name] == pytest.approx(wanted[1])
        before, after = source["net"]["layers"], copy["net"]["layers"]
        assert type(after) is int
        assert -3 <= after <= 40
        assert after != before or before in (0, -3, 40)
        assert abs(after - before) <= abs(before) * 0.5 + 1
    assert 20 <= ups <= 60


def test_a_resampled_value_is_any_of_its_range() -> None:
    pairs = explored(factor=0.2, resample=1.0)
    assert all(source["momentum"] != copy["momentum"] for source, copy in pairs)
    assert len({copy["net"]["act"] is None for _, copy in pairs}) == 2
    assert len({json.dumps(copy) for _, copy in pairs}) == 40


def test_without_change_a_copy_has_the_hyperparameters_of_its_source() -> None:
    assert all(source == copy for source, copy in explored(factor=0.0, resample=0.0))


def test_a_search_that_is_cut_off_at_every_event_decides_the_same() -> None:
    def run(interrupted: bool) -> list[list[Action]]:
        population = Population(pbt(max_concurrent_trials=4))
        history = [population.begin()]
        while Shutdown() not in history[-1]:
            if interrupted:
                document = json.dumps(population.searcher.snapshot(), allow_nan=False)
                population.searcher = pbt(max_concurrent_trials=4)
                population.searcher.restore(json.loads(document))
                assert json.dumps(population.searcher.snapshot()) == document
            number = len(history)
            trial_id = population.training[-1 if number % 2 else 0]
            act: list[Callable[[], list[Action]]] = [
                lambda t=trial_id, n=number: population.report(t, n * 7 % 11 / 10),  # type: ignore[misc]
                lambda t=trial_id: population.fail(t, "invalid_hp"),  # type: ignore[misc]
                lambda t=trial_id: population.fail(t),  # type: ignore[misc]
            ]
            history.append(act[1 if number == 3 else 2 if number in (5, 8) else 0]())
            if history[-1] == [] and trial_id in population.until:
                history.append(population.exit(trial_id))
        return history

    assert run(interrupted=True) == run(interrupted=False)


@pytest.mark.slow
def test_a_real_copy_starts_with_the_weights_of_its_source(tmp_path: Path) -> None:
    searcher = {
        "name": "pbt",
        "metric": "validation_loss",
        "population_size": 2,
        "num_rounds": 2,
        "length_per_round": {"batches": 30},
        "replace_function": {"truncate_fraction": 0.5},
        "explore_function": {"resample_probability": 0.0, "perturb_factor": 0.1},
    }
    learning_rate = {"type": "log", "base": 10, "minval": -3, "maxval": -1}
    space = {"hidden_sizes": [16], "optimizer": "sgd", "learning_rate": learning_rate, "global_batch_size": 100}
    config = write_config(tmp_path, searcher=searcher, hyperparameters=space)
    document = Command(tmp_path / "home", tmp_path).json("create", config, "--launcher", "inline")
    assert document["state"] == "COMPLETED"
    stopped, *others = sorted(document["trials"], key=lambda trial: not trial["stopped_early"])
    source, copy = others
    assert (stopped["batches"], source["batches"], copy["batches"]) == (30, 60, 30)
    # With the 30 batches in its weights it came as far as its source, at a rate a tenth higher or lower.
    assert copy["trial_id"] == 3
    assert copy["best_metric"] == pytest.approx(source["best_metric"], rel=0.1)
    assert copy["best_metric"] < stopped["best_metric"] * 0.9


CONFIG = {
    "name": "x",
    "entrypoint": "trial:Mine",
    "hyperparameters": HYPERPARAMETERS,
    "searcher": {
        "name": "pbt",
        "metric": "loss",
        "population_size": 4,
        "num_rounds": 3,
        "length_per_round": {"epochs": 2},
    },
}


def test_the_length_of_a_trial_follows_from_the_rounds() -> None:
    searcher = load(CONFIG).config.searcher
    assert searcher.settings["max_length"] == {"epochs": 6}
    assert searcher.settings["replace_function"] == {"truncate_fraction": 0.2}
    assert searcher.settings["explore_function"] == {"resample_probability": 0.2, "perturb_factor": 0.2}
    assert load(load(CONFIG).config.to_dict()).config == load(CONFIG).config


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("replace_function={truncate_fracton: 0.2}", "unknown key .* Did you mean 'truncate_fraction'"),
        ("replace_function.truncate_fraction=0.6", "must be a number from 0 to 0.5, not 0.6"),
        ("explore_function={perturb: 0.2}", "unknown key 'perturb' .* Known: perturb_factor, resample"),
        ("explore_function.resample_probability=-1", "must be a number from 0 to 1, not -1"),
        ("population_size=1", "must be a whole number of at least 2, not 1"),
        ("num_rounds=0", "must be a whole number of at least 1, not 0"),
        ("max_length={epochs: 5}", "'searcher.max_length' follows from .*: it is {epochs: 6}. Leave it out"),
        ("max_time=5", "it takes no 'max_time'"),
        ("divisor=5", "unknown key 'divisor'"),
    ],
)  # fmt: skip
def test_what_it_does_not_take_is_refused(change: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        load(CONFIG, [f"searcher.{change}"])
