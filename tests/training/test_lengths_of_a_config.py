"""Lengths and cadences as a config has them: what max_steps, num_epochs, log_steps and the like become."""

from __future__ import annotations

from typing import Any

import pytest

from mnist_trials.events import CheckpointSaved, MetricsReported, ValidationCompleted
from mnist_trials.testing.channel import RecordingChannel
from mnist_trials.training.trainer import Trainer
from tests.training.lab import Lab, Run, Small, same


def run(lab: Lab, searcher: dict[str, Any], *, stop: int = 0, hparams: Any = None, **config: Any) -> Run:
    """A training whose `fit` is told nothing."""
    channel = RecordingChannel()
    if stop:
        channel.stop_at_poll(stop)
    checkpoints = config.pop("checkpoints", ())
    whole = {"searcher": {"metric": "validation_loss", **searcher}, **config}
    context = lab.context(hparams, whole, channel=channel, checkpoints=checkpoints)
    trial = Small(context)
    return Run(trial, context, channel, Trainer(trial, context).fit())


def at(events: list[Any]) -> list[int]:
    return [event.batches for event in events]


def saved(run: Run) -> list[int]:
    return [event.checkpoint.batches for event in run.channel.of(CheckpointSaved)]


@pytest.mark.parametrize(
    ("length", "config", "batches", "epochs"),
    [
        ({"batches": 20}, {}, 20, 1),  # max_steps
        ({"epochs": 2}, {}, 26, 2),  # num_epochs
        ({"epochs": 2}, {"records_per_epoch": 40}, 10, 2),  # with steps_per_epoch: 5 of 8 records
        ({"epochs": 2}, {"limit_batches": {"training": 5, "validation": None}}, 10, 2),  # the same, shuffled anew
        ({"records": 100}, {}, 13, 1),
    ],
)
def test_max_length_is_that_of_the_searcher(
    lab: Lab, length: dict[str, int], config: dict[str, Any], batches: int, epochs: int
) -> None:
    result = run(lab, {"max_length": length}, **config).result
    assert (result.batches, result.epochs) == (batches, epochs)


def test_max_length_counts_what_was_trained_before(lab: Lab) -> None:
    straight = run(lab, {"max_length": {"batches": 12}})
    first = run(lab, {"max_length": {"batches": 12}}, stop=5)
    second = run(lab, {"max_length": {"batches": 12}}, checkpoints=[str(first.result.checkpoint)])
    assert (first.result.batches, second.result.batches) == (5, 12)
    assert same(second.weights, straight.weights)


def test_a_length_that_was_reached_before_leaves_nothing_to_do_and_is_no_error(lab: Lab) -> None:
    first = run(lab, {"max_length": {"batches": 6}})
    second = run(lab, {"max_length": {"batches": 6}}, checkpoints=[str(first.result.checkpoint)])
    assert second.result.batches == 6
    assert at(second.channel.of(MetricsReported)) == []
    assert same(second.weights, first.weights)


def test_losses_are_reported_every_scheduling_unit_and_at_the_end(lab: Lab) -> None:
    reported = run(lab, {"max_length": {"batches": 10}}, scheduling_unit=4).channel.of(MetricsReported)
    assert at(reported) == [4, 8, 10]
    assert all(event.metrics["loss"] is not None for event in reported)


def test_checkpoints_are_saved_every_period_and_at_the_end(lab: Lab) -> None:
    config = {"min_checkpoint_period": {"batches": 4}, "checkpoint_policy": "none"}
    assert saved(run(lab, {"max_length": {"batches": 10}}, **config)) == [4, 8, 10]


def test_validations_come_every_period_and_at_the_end(lab: Lab) -> None:
    found = run(lab, {"max_length": {"batches": 10}}, min_validation_period={"batches": 4})
    assert at(found.channel.of(ValidationCompleted)) == [4, 8, 10]


def test_an_update_is_made_of_as_many_batches_as_the_hyperparameter_says(lab: Lab) -> None:
    steps = {}
    for frequency in (1, 3):
        found = run(lab, {"max_length": {"batches": 12}}, hparams={"aggregation_frequency": frequency})
        assert found.context._stepper is not None
        steps[frequency] = found.context._stepper.steps
    assert steps == {1: 12, 3: 4}


INITIAL: dict[str, Any] = {"save_initial_checkpoint": True, "checkpoint_policy": "none"}


def test_a_checkpoint_is_saved_before_the_first_batch_if_the_config_says_so(lab: Lab) -> None:
    assert saved(run(lab, {"max_length": {"batches": 3}}, **INITIAL)) == [0, 3]
    assert saved(run(lab, {"max_length": {"batches": 3}}, checkpoint_policy="none")) == [3]


def test_it_is_saved_once_where_the_first_validation_saves_one_too(lab: Lab) -> None:
    config = {**INITIAL, "checkpoint_policy": "all", "perform_initial_validation": True}
    assert saved(run(lab, {"max_length": {"batches": 3}}, **config)) == [0, 3]


def test_a_training_that_goes_on_from_it_saves_no_second_one_and_is_the_undisturbed_one(lab: Lab) -> None:
    straight = run(lab, {"max_length": {"batches": 5}}, **INITIAL)
    first = straight.channel.of(CheckpointSaved)[0].checkpoint.uuid
    again = run(lab, {"max_length": {"batches": 5}}, **INITIAL, checkpoints=[first])
    assert saved(again) == [5]
    assert same(again.weights, straight.weights)
