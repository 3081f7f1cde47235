"""`mt.simulate`: what comes out of a search on a simulated clock."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

import mnist_trials as mt
from mnist_trials.config import sample
from mnist_trials.plugin import Create, Shutdown
from tests.experiment.simulated import BEGIN, DONE, LR, config, play


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


def test_code_that_cannot_be_imported_is_not_looked_at() -> None:
    given = {
        "entrypoint": "no_such_module:Trial",
        "searcher": {"name": "random", "metric": "loss", "max_trials": 3, "max_length": 4},
        "hyperparameters": {"lr": LR},
    }
    assert mt.simulate(given, lambda hparams, units: 0.0).total_units == 12
