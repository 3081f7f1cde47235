"""Validations where the searcher judges a trial, and what is said where a script has none there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

import mnist_trials as mt
from mnist_trials.errors import TrialError
from mnist_trials.events import (
    GoOn,
    MetricsReported,
    Notice,
    ProgressReported,
    StopRequest,
    TrialHeld,
    ValidationCompleted,
)
from mnist_trials.records import Outcome
from mnist_trials.testing.channel import RecordingChannel
from tests.training.lab import Lab, Run, Small
from tests.training.stateful import WithIterable, WithLoader

SECONDS = {
    "searcher": {"name": "asha", "metric": "validation_loss", "max_time": 5, "time_metric": "seconds"},
    "min_validation_period": {"batches": 4},
}


def config(**length: int) -> dict[str, Any]:
    return {"searcher": {"name": "asha", "metric": "validation_loss", "max_length": length}}


def trained(lab: Lab, trial: type[mt.Trial], given: Any, validate_at: Sequence[int], **arguments: Any) -> Run:
    context = lab.context(config=given, validate_at=validate_at)
    made = trial(context)
    result = mt.Trainer(made, context).fit(**arguments)
    assert isinstance(context.channel, RecordingChannel)
    return Run(made, context, context.channel, result)


def validations(run: Run) -> list[int]:
    return [event.batches for event in run.channel.of(ValidationCompleted)]


def notices(run: Run) -> list[str]:
    return [event.message for event in run.channel.of(Notice) if "judges" in event.message]


@pytest.mark.parametrize("trial", [Small, WithLoader, WithIterable])
@pytest.mark.parametrize(
    ("length", "points", "expected"),
    [
        ({"batches": 27}, [1, 3, 9], [1, 3, 9, 27]),
        ({"epochs": 3}, [1, 2], [13, 26, 39]),
        ({"records": 250}, [10, 100, 160], [2, 13, 21, 33]),
    ],
    ids=["batches", "epochs", "records"],
)
def test_a_trial_is_validated_exactly_where_it_is_judged(
    lab: Lab, trial: type[mt.Trial], length: dict[str, int], points: list[int], expected: list[int]
) -> None:
    run = trained(lab, trial, config(**length), points)
    assert validations(run) == expected
    assert notices(run) == []


def test_the_configs_own_period_stays(lab: Lab) -> None:
    given = {**config(batches=20), "min_validation_period": {"batches": 8}}
    assert validations(trained(lab, Small, given, [3, 8, 9])) == [3, 8, 9, 16, 20]


def test_points_of_a_training_that_goes_on_are_not_met_again(lab: Lab) -> None:
    first = trained(lab, Small, config(batches=20), [3, 9], max_length=mt.Batch(9))
    context = lab.context(config=config(batches=20), validate_at=[3, 9, 15], checkpoints=[str(first.result.checkpoint)])
    run = lab.fit(Small, context, max_length=mt.Batch(20))
    assert validations(run) == [15, 20]


def test_a_thousand_points_in_no_order_are_all_met(lab: Lab) -> None:
    points = [*range(30, 0, -1), *range(1, 1000)]
    assert validations(trained(lab, Small, config(batches=30), points)) == list(range(1, 31))


@pytest.mark.parametrize(
    ("trial", "length", "points", "period", "missed"),
    [
        (Small, {"batches": 40}, [5, 10, 20], mt.Batch(10), "5 batches (judged at 10 batches)."),
        (
            Small,
            {"batches": 40},
            [10, 20, 35],
            mt.Batch(15),
            "10 batches (judged at 15 batches), 20 batches (judged at 30 batches), 35 batches (judged at 40 batches).",
        ),
        (
            Small,
            {"epochs": 4},
            [1, 2],
            mt.Batch(20),
            "1 epochs (judged at 20 batches), 2 epochs (judged at 40 batches).",
        ),
        (Small, {"batches": 40}, [13, 20], mt.Epoch(1), "20 batches (judged at 26 batches)."),
        (Small, {"batches": 40}, [13, 14], mt.Record(100), "14 batches (judged at 26 batches)."),
        (WithLoader, {"records": 320}, [104, 108, 110], mt.Batch(14), "110 records (judged at 28 batches)."),
        (Small, {"batches": 40}, [10, 30], [mt.Batch(10), mt.Batch(20)], "30 batches (judged at 40 batches)."),
        (
            WithIterable,
            {"epochs": 4},
            [1, 2, 3],
            mt.Epoch(2),
            "1 epochs (judged at 2 epochs), 3 epochs (judged at 4 epochs).",
        ),
        (
            Small,
            {"batches": 40},
            [1, 2, 3, 5, 6, 7],
            mt.Batch(4),
            "3 batches (judged at 4 batches), 5 batches (judged at 8 batches) and 2 more.",
        ),
    ],
)
def test_a_script_is_told_which_points_its_own_period_misses(
    lab: Lab, trial: type[mt.Trial], length: dict[str, int], points: list[int], period: Any, missed: str
) -> None:
    run = trained(lab, trial, config(**length), points, validation_period=period)
    (notice,) = notices(run)
    assert missed in notice
    assert "Leave validation_period out of fit()" in notice


@pytest.mark.parametrize(
    ("trial", "length", "points", "period"),
    [
        (Small, {"batches": 40}, [10, 20], mt.Batch(10)),
        (Small, {"epochs": 3}, [1, 2], mt.Batch(13)),
        (Small, {"records": 300}, [100, 200], mt.Epoch(1)),
        (Small, {"records": 300}, [97, 200], mt.Batch(13)),  # the records from 97 on are in the same batch as the 100th
        (WithIterable, {"epochs": 3}, [1, 2], mt.Epoch(1)),
        (WithIterable, {"records": 320}, [40, 80], mt.Record(40)),
        (
            Small,
            {"batches": 40},
            [40, 100],
            mt.Batch(30),
        ),  # at the end there is one, and what lies beyond is never judged
        (Small, {"batches": 40}, [], mt.Batch(30)),
    ],
)
def test_a_period_that_misses_none_is_not_spoken_of(
    lab: Lab, trial: type[mt.Trial], length: dict[str, int], points: list[int], period: Any
) -> None:
    run = trained(lab, trial, config(**length), points, validation_period=period)
    assert notices(run) == []


@pytest.mark.parametrize(
    ("points", "period"), [([6, 10, 20], mt.Batch(6)), ([5, 32, 90], mt.Record(33)), ([5, 13, 52], mt.Epoch(1))]
)
@pytest.mark.parametrize("unit", ["batches", "records"])
def test_what_is_said_is_what_happens(lab: Lab, unit: str, points: list[int], period: Any) -> None:
    run = trained(lab, Small, config(**{unit: 200}), points, validation_period=period, reporting_period=mt.Batch(1))
    (notice,) = notices(run)
    for point in points:
        reached = next(event.batches for event in run.channel.of(MetricsReported) if getattr(event, unit) >= point)
        judged = next(batches for batches in validations(run) if batches >= reached)
        assert (f"{point} {unit} (judged at {judged} batches)" in notice) is (judged > reached)
        assert (f" {point} {unit} (judged" in notice) is (judged > reached)


def test_where_it_cannot_be_known_before_it_is_said_so(lab: Lab) -> None:
    run = trained(lab, WithIterable, config(epochs=3), [1, 2], validation_period=mt.Batch(7))
    (notice,) = notices(run)
    assert "at 1 epochs, 2 epochs, or at the next validation" in notice
    assert "a validation_period of 7 batches" in notice


def test_of_a_trial_that_is_held_only_what_comes_before_is_told(lab: Lab) -> None:
    channel = RecordingChannel()
    channel.answers.extend([GoOn(20), GoOn()])
    context = lab.context(config=config(batches=40), validate_at=[5, 10, 20, 30], until=10, channel=channel)
    mt.Trainer(Small(context), context).fit(validation_period=mt.Batch(25))
    kinds = [type(event) for event in channel.events if isinstance(event, TrialHeld) or "judges" in str(event)]
    assert kinds == [Notice, TrialHeld, TrialHeld, Notice]
    texts = [event.message for event in channel.of(Notice)]
    assert "no validation: 5 batches (judged at 10 batches)." in texts[0]
    assert "no validation: 30 batches (judged at 40 batches)." in texts[1]


def test_a_trial_with_a_time_limit_trains_until_it_is_asked_to_stop(lab: Lab) -> None:
    channel = RecordingChannel()
    channel.stop_at_poll(50, Outcome.COMPLETED)
    context = lab.context(config=SECONDS, channel=channel, validate_at=[1, 2], until=2)
    result = mt.Trainer(Small(context), context).fit()
    assert (result.batches, result.outcome) == (50, Outcome.COMPLETED)
    assert [event.batches for event in channel.of(ValidationCompleted)] == list(range(4, 50, 4))
    assert {event.total_batches for event in channel.of(ProgressReported)} == {None}
    assert channel.of(TrialHeld) == []


def test_a_trial_with_a_time_limit_that_is_never_validated_is_refused(lab: Lab) -> None:
    for period in (None, [{"batches": 3}]):
        context = lab.context(config={**SECONDS, "min_validation_period": period})
        with pytest.raises(TrialError, match=r"must be a validation every so often: set min_validation_period"):
            mt.Trainer(Small(context), context).fit()


def test_outside_an_experiment_nobody_watches_the_time(lab: Lab) -> None:
    context = lab.context(config=SECONDS, experiment_id=0)
    with pytest.raises(TrialError, match="needs a max_length"):
        mt.Trainer(Small(context), context).fit()


def test_a_trial_with_a_time_limit_may_have_a_length_too(lab: Lab) -> None:
    run = lab.fit(Small, lab.context(config=SECONDS), max_length=mt.Batch(6))
    assert (run.result.batches, run.result.outcome) == (6, Outcome.COMPLETED)


def test_a_stop_in_mid_training_may_count_as_completed(lab: Lab) -> None:
    channel = RecordingChannel()
    channel.stop_at_poll(5, Outcome.COMPLETED)
    run = lab.fit(Small, lab.context(channel=channel), max_length=mt.Batch(20))
    assert (run.result.batches, run.result.outcome) == (5, Outcome.COMPLETED)
    assert channel.request == StopRequest(Outcome.COMPLETED)
    assert lab.read(str(run.result.checkpoint)).batches == 5


class Forgetful(Small):
    """Reports the metric it is judged by in its second validation only."""

    validations = 0

    def evaluate_batch(self, batch: Any, batch_idx: int) -> Any:
        self.validations += batch_idx == 0
        metrics = dict(super().evaluate_batch(batch, batch_idx))
        metrics["other"] = metrics.pop("validation_loss")
        return {**metrics, "validation_loss": metrics["other"]} if self.validations == 2 else metrics


def test_in_a_search_a_metric_that_is_missing_is_the_worst_and_no_error(lab: Lab) -> None:
    run = trained(lab, Forgetful, config(batches=9), [3, 6])
    first, second, third = run.channel.of(ValidationCompleted)
    assert "validation_loss" not in first.metrics
    assert "validation_loss" not in third.metrics
    assert run.result.best_metric == second.metrics["validation_loss"]


def test_without_a_search_it_is_an_error_that_comes_after_what_was_reported(lab: Lab) -> None:
    given = config(batches=9)
    given["searcher"]["name"] = "single"
    context = lab.context(config=given)
    with pytest.raises(TrialError, match="judges trials by 'validation_loss'"):
        mt.Trainer(Forgetful(context), context).fit()
    assert isinstance(context.channel, RecordingChannel)
    assert len(context.channel.of(ValidationCompleted)) == 1
