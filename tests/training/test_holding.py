"""A trial that is held where the searcher decides about it, and let go on, stopped or restarted there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

import mnist_trials as mt
from mnist_trials.events import (
    CheckpointSaved,
    Event,
    GoOn,
    MetricsReported,
    ProgressReported,
    Request,
    StopRequest,
    TrialHeld,
    ValidationCompleted,
)
from mnist_trials.records import Outcome
from mnist_trials.testing.channel import RecordingChannel
from tests.training.lab import Lab, Run, Small, same
from tests.training.stateful import Adam, WithDataset, WithIterable, WithLoader, WithWorkers, facts

POINTS = (2, 9, 13, 14, 20)
EPOCHS = {"searcher": {"metric": "validation_loss", "max_length": {"epochs": 3}}}
RECORDS = {"searcher": {"metric": "validation_loss", "max_length": {"records": 240}}}
BATCHES = {
    "searcher": {"metric": "validation_loss", "max_length": {"batches": 31}},
    "scheduling_unit": 4,
    "min_validation_period": {"batches": 9},
}


def held(lab: Lab, trial: type[mt.Trial], *answers: Request, **arguments: Any) -> Run:
    """Train `trial` to the length of the config, with these answers each time that it is held."""
    arguments.setdefault("config", BATCHES)
    channel = RecordingChannel()
    channel.answers.extend(answers)
    context = lab.context(channel=channel, **arguments)
    made = trial(context)
    return Run(made, context, channel, mt.Trainer(made, context).fit())


def at(events: Sequence[Any]) -> list[int]:
    return [event.batches for event in events]


def order(run: Run) -> list[type[Event]]:
    kinds = (ValidationCompleted, CheckpointSaved, TrialHeld, MetricsReported)
    return [type(event) for event in run.channel.events if isinstance(event, kinds)]


def test_it_trains_exactly_as_far_as_it_may_and_is_validated_and_saved_there(lab: Lab) -> None:
    stop = StopRequest(Outcome.PAUSED, "a rung")
    config = {**BATCHES, "checkpoint_policy": "none", "min_validation_period": None}
    run = held(lab, Small, stop, config=config, until=7)
    assert order(run) == [MetricsReported, ValidationCompleted, CheckpointSaved, TrialHeld]
    assert at(run.channel.of(TrialHeld)) == at(run.channel.of(ValidationCompleted)) == [7]
    assert run.channel.of(CheckpointSaved)[0].checkpoint.metrics == run.channel.of(ValidationCompleted)[0].metrics
    assert (run.result.batches, run.result.outcome) == (7, Outcome.PAUSED)
    assert run.result.checkpoint == run.channel.of(CheckpointSaved)[0].checkpoint.uuid
    assert run.result.metrics == run.channel.of(ValidationCompleted)[0].metrics


def test_how_far_it_is_was_told_before_it_waits(lab: Lab) -> None:
    events = held(lab, Small, GoOn(), until=7).channel.events
    before = events[next(i for i, event in enumerate(events) if isinstance(event, TrialHeld)) - 1]
    assert isinstance(before, ProgressReported)
    assert before.batches == 7


@pytest.mark.parametrize(
    ("config", "points", "batches"),
    [
        (BATCHES, (1, 13, 26), [1, 13, 26]),
        (EPOCHS, (1, 2), [13, 26]),
        (RECORDS, (1, 8, 9, 100, 101), [1, 1, 2, 13, 14]),  # the 13th batch holds only 4
    ],
    ids=["batches", "epochs", "records"],
)
@pytest.mark.parametrize("trial", [Small, WithIterable])
def test_it_is_held_at_its_points_in_any_unit(
    lab: Lab, trial: type[mt.Trial], config: Any, points: tuple[int, ...], batches: list[int]
) -> None:
    run = held(lab, trial, *(GoOn(point) for point in points[1:]), GoOn(), config=config, until=points[0])
    assert at(run.channel.of(TrialHeld)) == batches
    assert set(batches) < set(at(run.channel.of(ValidationCompleted)))
    assert run.result.outcome is Outcome.COMPLETED


@pytest.mark.parametrize("trial", [Adam, WithLoader, WithWorkers, WithDataset, WithIterable])
def test_a_training_that_was_held_is_the_same_to_the_bit_as_one_that_was_not(lab: Lab, trial: type[mt.Trial]) -> None:
    undisturbed = held(lab, trial, validate_at=POINTS)
    run = held(lab, trial, *map(GoOn, (*POINTS[1:], None)), validate_at=POINTS, until=POINTS[0])
    assert at(run.channel.of(TrialHeld)) == list(POINTS)
    assert facts(run) == facts(undisturbed)
    assert same(run.weights, undisturbed.weights)
    left, right = (lab.read(str(each.result.checkpoint)) for each in (run, undisturbed))
    assert same(left.state, right.state)
    assert left.metrics == right.metrics


@pytest.mark.parametrize("trial", [Adam, WithLoader, WithIterable])
@pytest.mark.parametrize("hparams", [{}, {"aggregation_frequency": 4}], ids=str)
def test_a_training_that_left_its_slot_at_every_point_is_the_same_to_the_bit(
    lab: Lab, trial: type[mt.Trial], hparams: dict[str, Any]
) -> None:
    undisturbed = held(lab, trial, validate_at=POINTS, hparams=hparams)
    checkpoints: list[str] = []
    told: list[Any] = []
    for number, until in enumerate((*POINTS, None)):
        answers = [StopRequest(Outcome.PAUSED)] if until else []
        if number:  # promoted: it is restarted where it rests, and told there how far it may go
            answers.insert(0, GoOn(until))
        start = POINTS[number - 1] if number else until
        run = held(
            lab, trial, *answers, validate_at=POINTS, hparams=hparams, checkpoints=tuple(checkpoints), until=start
        )
        told += facts(run)
        checkpoints.insert(0, str(run.result.checkpoint))
        assert run.result.outcome is (Outcome.PAUSED if until else Outcome.COMPLETED)
    assert told == facts(undisturbed)
    assert same(run.weights, undisturbed.weights)
    assert same(lab.read(checkpoints[0]).state, lab.read(str(undisturbed.result.checkpoint)).state)


def test_restarted_where_it_is_held_it_is_held_again_at_once(lab: Lab) -> None:
    first = held(lab, Small, StopRequest(Outcome.PAUSED), until=7)
    again = held(lab, Small, StopRequest(Outcome.STOPPED), until=7, checkpoints=[str(first.result.checkpoint)])
    assert order(again) == [TrialHeld]
    assert (again.result.batches, again.result.outcome) == (7, Outcome.STOPPED)
    assert again.result.checkpoint == first.result.checkpoint


def test_restarted_where_it_was_not_validated_yet_it_is_first(lab: Lab) -> None:
    channel = RecordingChannel()
    channel.stop_at_poll(7)
    first = lab.fit(Small, lab.context(config=BATCHES, channel=channel, until=7))
    assert channel.of(TrialHeld) == []
    assert first.result.batches == 7
    again = held(lab, Small, StopRequest(Outcome.PAUSED), until=7, checkpoints=[str(first.result.checkpoint)])
    assert order(again) == [ValidationCompleted, CheckpointSaved, TrialHeld]
    assert lab.read(str(again.result.checkpoint)).metrics == again.channel.of(ValidationCompleted)[0].metrics


def test_restarted_with_a_farther_point_it_trains_on(lab: Lab) -> None:
    first = held(lab, Small, StopRequest(Outcome.PAUSED), until=7)
    run = held(lab, Small, GoOn(), until=11, checkpoints=[str(first.result.checkpoint)])
    assert at(run.channel.of(TrialHeld)) == [11]


def test_an_answer_to_end_there_completes_the_trial(lab: Lab) -> None:
    ended: list[int] = []

    class Told(Small):
        def build_callbacks(self) -> Any:
            class Last(mt.Callback):
                def on_training_end(self) -> None:
                    ended.append(1)

            return [Last()]

    run = held(lab, Told, StopRequest(Outcome.COMPLETED), until=7)
    assert (run.result.batches, run.result.outcome, ended) == (7, Outcome.COMPLETED, [1])
    assert run.channel.of(CheckpointSaved)[-1].checkpoint.uuid == run.result.checkpoint


@pytest.mark.parametrize(("config", "until"), [(BATCHES, 31), (BATCHES, 500), (EPOCHS, 3), (RECORDS, 240)])
def test_the_full_length_is_no_point_to_be_held_at(lab: Lab, config: Any, until: int) -> None:
    run = held(lab, Small, config=config, until=until)
    assert run.channel.of(TrialHeld) == []
    assert run.result.outcome is Outcome.COMPLETED


def test_a_trial_that_a_callback_ends_where_it_would_be_held_is_not(lab: Lab) -> None:
    class Impatient(Small):
        def build_callbacks(self) -> Any:
            class Enough(mt.Callback):
                def on_validation_end(self, metrics: Any) -> None:
                    self.stop_training("seen enough")

            return [Enough()]

    for config in (BATCHES, {**BATCHES, "min_validation_period": {"batches": 7}}):
        run = held(lab, Impatient, config=config, until=7)
        assert run.channel.of(TrialHeld) == []
        assert (run.result.batches, run.result.outcome) == (7, Outcome.COMPLETED)
        assert at(run.channel.of(ValidationCompleted)) == [7]


def test_a_request_to_stop_that_came_before_is_the_answer(lab: Lab) -> None:
    channel = RecordingChannel()

    def ask(event: Event) -> None:
        if isinstance(event, ValidationCompleted):
            channel.request = StopRequest(Outcome.STOPPED, "judged")

    channel = RecordingChannel(ask)
    run = lab.fit(Small, lab.context(config=BATCHES, channel=channel, until=7))
    assert (run.result.batches, run.result.outcome) == (7, Outcome.STOPPED)
    assert at(channel.of(TrialHeld)) == [7]


def test_a_test_run_is_not_held_and_not_judged(lab: Lab) -> None:
    run = held(lab, Small, config=EPOCHS, until=1, validate_at=[1, 2], test_mode=True)
    assert run.channel.of(TrialHeld) == []
    assert run.result.batches == 1


def test_a_script_is_held_in_the_unit_of_its_searcher(lab: Lab) -> None:
    channel = RecordingChannel()
    channel.answers.extend([GoOn(2), GoOn()])
    context = lab.context(config=EPOCHS, channel=channel, until=1)
    mt.Trainer(Small(context), context).fit(max_length=mt.Batch(30), validation_period=mt.Batch(10))
    assert at(channel.of(TrialHeld)) == [13, 26]
    assert at(channel.of(ValidationCompleted)) == [10, 13, 20, 26, 30]
