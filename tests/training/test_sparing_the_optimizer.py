"""`checkpoint_storage.save_optimizer: false`: the end of training is saved without it, and nothing is lost by that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import mnist_trials as mt
from mnist_trials.errors import CheckpointError
from mnist_trials.events import CheckpointSaved, TrialStarted
from mnist_trials.records import Outcome
from mnist_trials.testing.channel import RecordingChannel
from mnist_trials.training.evaluation import evaluate
from tests.training.lab import SEARCHED, Lab, Small, same
from tests.training.stateful import Adam

SPARING = {**SEARCHED, "checkpoint_storage": {"save_optimizer": False}}


class Impatient(Adam):
    """Ends its training at the first validation that is no better."""

    def build_callbacks(self) -> Any:
        return [mt.EarlyStopping("validation_loss", patience=1, min_delta=100.0)]


def optimizer_of(lab: Lab, uuid: str) -> Any:
    return lab.read(uuid).state["optimizers"]


def _tensors(folder: Path) -> int:
    return (folder / "optimizer.safetensors").stat().st_size


def test_only_the_checkpoint_of_the_end_is_without(lab: Lab) -> None:
    run = lab.fit(Adam, lab.context(config=SPARING), checkpoint_period=mt.Batch(4))
    saved = [event.checkpoint for event in run.channel.of(CheckpointSaved)]
    assert [info.batches for info in saved] == [4, 8, 10]
    assert [optimizer_of(lab, info.uuid) is None for info in saved] == [False, False, True]
    with lab.storage.fetch(saved[-1].uuid) as last, lab.storage.fetch(saved[0].uuid) as first:
        assert _tensors(last) < _tensors(first)


def test_by_default_it_is_saved(lab: Lab) -> None:
    assert optimizer_of(lab, str(lab.fit(Adam).result.checkpoint)) is not None


def test_a_validation_at_the_end_saves_without(lab: Lab) -> None:
    run = lab.fit(Adam, lab.context(config=SPARING), validation_period=mt.Batch(5), checkpoint_policy="all")
    saved = [event.checkpoint for event in run.channel.of(CheckpointSaved)]
    assert [(info.batches, optimizer_of(lab, info.uuid) is None) for info in saved] == [(5, False), (10, True)]


def test_a_trial_that_was_cut_off_goes_on_exactly(lab: Lab) -> None:
    whole = lab.fit(Adam, lab.context(config=SPARING), checkpoint_period=mt.Batch(4))
    cut = whole.channel.of(CheckpointSaved)[1].checkpoint.uuid
    rest = lab.fit(Adam, lab.context(config=SPARING, checkpoints=[cut]))
    assert rest.channel.of(TrialStarted)[0].batches == 8
    assert same(rest.weights, whole.weights)


def test_one_whose_end_was_not_told_any_more_has_nothing_to_train(lab: Lab) -> None:
    first = lab.fit(Adam, lab.context(config=SPARING))
    again = lab.fit(Adam, lab.context(config=SPARING, checkpoints=[str(first.result.checkpoint)]))
    assert (again.result.batches, again.result.outcome) == (10, Outcome.COMPLETED)
    assert same(again.weights, first.weights)


def test_one_that_a_callback_ended_stays_ended(lab: Lab) -> None:
    first = lab.fit(Impatient, lab.context(config=SPARING), validation_period=mt.Batch(3), checkpoint_policy="all")
    uuid = str(first.result.checkpoint)
    assert optimizer_of(lab, uuid) is None
    again = lab.fit(Impatient, lab.context(config=SPARING, checkpoints=[uuid]))
    assert (again.result.batches, again.result.outcome) == (6, Outcome.COMPLETED)


GROUPED = {"aggregation_frequency": 4}  # of its batches 5 and 6, after which it ends


def test_where_a_callback_ends_it_inside_a_group_it_goes_on_exactly(lab: Lab) -> None:
    policy: dict[str, Any] = {"validation_period": mt.Batch(3), "checkpoint_policy": "all"}
    whole = lab.fit(Impatient, lab.context(GROUPED, config=SPARING), **policy)
    saved = [event.checkpoint for event in whole.channel.of(CheckpointSaved)]
    assert [(info.batches, optimizer_of(lab, info.uuid) is None) for info in saved] == [
        (3, False),
        (6, False),
        (6, True),
    ]
    cut = lab.fit(Impatient, lab.context(GROUPED, config=SPARING, checkpoints=[saved[1].uuid]), **policy)
    assert cut.result.batches == 6
    assert same(cut.weights, whole.weights)


def test_the_update_of_the_group_in_which_a_callback_ends_it_is_saved_without_a_validation_too(lab: Lab) -> None:
    context = lab.context(GROUPED, mode="train", validate_at=(3, 6))
    whole = lab.fit(Impatient, context, checkpoint_policy="all")
    assert whole.result.batches == 6
    assert same(lab.read(str(whole.result.checkpoint)).model, whole.weights)


def test_one_that_is_asked_to_stop_can_go_on(lab: Lab) -> None:
    channel = RecordingChannel()
    channel.stop_at_poll(3)
    run = lab.fit(Adam, lab.context(config=SPARING, channel=channel))
    assert run.result.outcome is Outcome.PAUSED
    assert optimizer_of(lab, str(run.result.checkpoint)) is not None


def test_it_is_evaluated_and_started_from_but_not_resumed(lab: Lab) -> None:
    first = lab.fit(Adam, lab.context(config=SPARING))
    uuid = str(first.result.checkpoint)
    trial = mt.load_trial(lab.folder / "checkpoints" / uuid, Adam)
    assert evaluate(trial, trial.context) == first.result.metrics
    warm = lab.fit(Adam, lab.context(warm_start=uuid), step_zero_validation=True)
    assert warm.channel.of(TrialStarted)[0].batches == 0
    with pytest.raises(CheckpointError, match=r"holds no optimizer state: .*save_optimizer: false.*source_checkpoint"):
        lab.fit(Adam, latest_checkpoint=uuid, max_length=mt.Batch(20))


def test_with_test_mode_it_is_read_back_all_the_same(lab: Lab) -> None:
    run = lab.fit(Small, lab.context(config=SPARING, test_mode=True), test_mode=True)
    assert optimizer_of(lab, str(run.result.checkpoint)) is None
