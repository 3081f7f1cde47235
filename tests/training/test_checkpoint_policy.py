"""Which validations are followed by a checkpoint, and which was the best."""

from __future__ import annotations

from typing import Any

import pytest

import mnist_trials as mt
from mnist_trials.events import CheckpointSaved, Notice, StopRequest, TrialStarted
from mnist_trials.records import Outcome
from mnist_trials.testing.channel import RecordingChannel
from tests.training.lab import Lab, Small

SCORES = [5.0, 3.0, 4.0, 3.0, 2.0, 6.0]


class Scored(Small):
    name = "validation_loss"

    def __init__(self, context: Any) -> None:
        super().__init__(context)
        self.validations = 0

    def build_callbacks(self) -> Any:
        trial = self

        class Next(mt.Callback):
            def on_validation_end(self, metrics: Any) -> None:
                trial.validations += 1

        return [Next()]

    def evaluate_batch(self, batch: Any, batch_idx: int) -> Any:
        return {self.name: SCORES[self.validations]}

    def state_dict(self) -> dict[str, Any]:
        return {"validations": self.validations}

    def load_state_dict(self, state: Any) -> None:
        self.validations = state["validations"]


class Unnamed(Scored):
    name = "score"


def saved(lab: Lab, trial: type[mt.Trial], config: dict[str, Any], **arguments: Any) -> tuple[list[int], Any]:
    run = lab.fit(
        trial,
        lab.context(config=config, experiment_id=0),
        max_length=mt.Batch(12),
        validation_period=mt.Batch(2),
        **arguments,
    )
    return [event.checkpoint.batches for event in run.channel.of(CheckpointSaved)], run


@pytest.mark.parametrize(
    ("policy", "smaller", "batches", "best"),
    [
        ("best", True, [2, 4, 10, 12], 2.0),
        ("best", False, [2, 12], 6.0),
        ("all", True, [2, 4, 6, 8, 10, 12], 2.0),
        ("none", True, [12], 2.0),
    ],
)
def test_policies(lab: Lab, policy: str, smaller: bool, batches: list[int], best: float) -> None:
    config = {"searcher": {"metric": "validation_loss", "smaller_is_better": smaller}, "checkpoint_policy": policy}
    done, run = saved(lab, Scored, config)
    assert done == batches
    assert run.result.best_metric == best


def test_a_script_without_a_searcher_judges_by_the_validation_loss(lab: Lab) -> None:
    assert saved(lab, Scored, {})[0] == [2, 4, 10, 12]


def test_without_any_metric_to_judge_by_all_are_saved_and_it_is_said_once(lab: Lab) -> None:
    done, run = saved(lab, Unnamed, {})
    assert done == [2, 4, 6, 8, 10, 12]
    assert run.result.best_metric is None
    assert [e.message for e in run.channel.of(Notice)] == [
        "No validation metric is the one to judge by (there is no 'validation_loss' among score), so a checkpoint is "
        "saved after every validation, not only after the best."
    ]


def test_the_best_so_far_is_remembered_over_a_resume(lab: Lab) -> None:
    channel = RecordingChannel()
    channel.stop_at_poll(5)
    first = lab.fit(Scored, lab.context(channel=channel), max_length=mt.Batch(12), validation_period=mt.Batch(2))
    context = lab.context(checkpoints=[str(first.result.checkpoint)])
    second = lab.fit(Scored, context, max_length=mt.Batch(12), validation_period=mt.Batch(2))
    assert [e.checkpoint.batches for e in first.channel.of(CheckpointSaved)] == [2, 4, 5]
    assert [e.checkpoint.batches for e in second.channel.of(CheckpointSaved)] == [10, 12]


@pytest.mark.parametrize("outcome", [Outcome.STOPPED, Outcome.PAUSED, Outcome.CANCELED])
def test_a_request_to_stop_saves_and_returns_with_its_outcome(lab: Lab, outcome: Outcome) -> None:
    channel = RecordingChannel()
    channel.stop_at_poll(3, outcome)
    run = lab.fit(Small, lab.context(channel=channel))
    assert run.result.outcome is outcome
    assert run.result.batches == 3
    assert [e.checkpoint.batches for e in channel.of(CheckpointSaved)] == [3]
    assert run.result.metrics == {}


def test_a_request_that_comes_at_the_end_changes_nothing(lab: Lab) -> None:
    channel = RecordingChannel()
    channel.stop_at_poll(10)
    run = lab.fit(Small, lab.context(channel=channel))
    assert run.result.outcome is Outcome.COMPLETED
    assert run.result.metrics


def test_a_request_made_before_training_lets_one_batch_be_trained(lab: Lab) -> None:
    channel = RecordingChannel(lambda event: None)
    channel.request = StopRequest(Outcome.PAUSED)
    run = lab.fit(Small, lab.context(channel=channel))
    assert isinstance(channel.events[0], TrialStarted)
    assert run.result.batches == 1


def test_a_point_where_period_policy_and_end_meet_is_saved_once(lab: Lab) -> None:
    run = lab.fit(Small, validation_period=mt.Batch(5), checkpoint_period=mt.Batch(5), checkpoint_policy="all")
    assert [e.checkpoint.batches for e in run.channel.of(CheckpointSaved)] == [5, 10]
