"""A training that is stopped anywhere and resumed is the same, to the last bit, as one that was not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import mnist_trials as mt
from mnist_trials.errors import CheckpointError, TrialError
from mnist_trials.events import CheckpointRejected, Notice, TrialStarted
from mnist_trials.records import Outcome
from mnist_trials.testing.channel import RecordingChannel
from tests.training.lab import Lab, Run, Small, same
from tests.training.stateful import (
    Adam,
    WithDataset,
    WithIterable,
    WithLoader,
    WithOwnGenerator,
    WithOwnSampler,
    WithWorkers,
    facts,
)

CONFIG = {"searcher": {"metric": "validation_loss"}, "scheduling_unit": 4, "min_validation_period": {"batches": 9}}
LENGTH = mt.Batch(31)  # two epochs of 13 and a part of a third


def stopped_and_resumed(lab: Lab, trial: type[mt.Trial], hparams: dict[str, Any], stops: list[int]) -> list[Run]:
    runs: list[Run] = []
    checkpoints: list[str] = []
    for stop in [*stops, None]:
        channel = RecordingChannel()
        if stop is not None:
            channel.stop_at_poll(stop)
        runs.append(
            lab.fit(trial, lab.context(hparams, CONFIG, channel=channel, checkpoints=checkpoints), max_length=LENGTH)
        )
        assert runs[-1].result.outcome is (Outcome.COMPLETED if stop is None else Outcome.PAUSED)
        checkpoints.insert(0, str(runs[-1].result.checkpoint))
    return runs


def assert_same_as_undisturbed(lab: Lab, trial: type[mt.Trial], hparams: dict[str, Any], stops: list[int]) -> None:
    undisturbed = lab.fit(trial, lab.context(hparams, CONFIG), max_length=LENGTH)
    runs = stopped_and_resumed(lab, trial, hparams, stops)
    assert [fact for run in runs for fact in facts(run)] == facts(undisturbed)
    assert same(runs[-1].weights, undisturbed.weights)
    left, right = (lab.read(str(run.result.checkpoint)) for run in (runs[-1], undisturbed))
    assert same(left.state, right.state)
    assert left.metrics == right.metrics


@pytest.mark.parametrize("stops", [[1], [8], [9], [12], [13], [14], [30], [3, 7, 3, 13]], ids=str)
def test_tensor_data_resumes_to_the_bit_after_any_batch(lab: Lab, stops: list[int]) -> None:
    assert_same_as_undisturbed(lab, Adam, {}, stops)


@pytest.mark.parametrize("stops", [[2], [5], [13], [15]], ids=str)
def test_gradients_of_an_open_group_survive(lab: Lab, stops: list[int]) -> None:
    assert_same_as_undisturbed(lab, Adam, {"aggregation_frequency": 4, "max_gradient_norm": 0.5}, stops)


@pytest.mark.parametrize(
    "trial", [WithLoader, WithWorkers, WithDataset, WithOwnSampler, WithOwnGenerator, WithIterable]
)
@pytest.mark.parametrize("stops", [[5], [13], [14, 6]], ids=str)
def test_data_loaders_resume_to_the_bit(lab: Lab, trial: type[mt.Trial], stops: list[int]) -> None:
    assert_same_as_undisturbed(lab, trial, {}, stops)


def test_the_number_of_loader_workers_changes_nothing(lab: Lab) -> None:
    assert facts(lab.fit(WithLoader)) == facts(lab.fit(WithWorkers))


def test_resuming_a_loader_with_its_own_sampler_is_said(lab: Lab) -> None:
    run = stopped_and_resumed(lab, WithOwnSampler, {}, [5])[-1]
    assert any("is read again up to batch 5" in notice.message for notice in run.channel.of(Notice))


def test_a_run_of_a_finished_training_does_nothing_again(lab: Lab) -> None:
    first = lab.fit(Small)
    again = lab.fit(Small, lab.context(checkpoints=[str(first.result.checkpoint)]))
    assert facts(again) == []
    assert again.result.checkpoint == first.result.checkpoint
    assert again.result.metrics == first.result.metrics


def test_the_start_of_a_run_says_where_it_goes_on(lab: Lab) -> None:
    first, second = stopped_and_resumed(lab, Small, {}, [5])
    assert [(e.batches, e.checkpoint) for e in first.channel.of(TrialStarted)] == [(0, None)]
    assert [(e.batches, e.checkpoint) for e in second.channel.of(TrialStarted)] == [(5, first.result.checkpoint)]
    assert isinstance(second.channel.events[0], TrialStarted)


def damage(lab: Lab, uuid: str) -> None:
    path = lab.folder / "checkpoints" / uuid / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_a_damaged_checkpoint_is_told_and_the_one_before_it_used(lab: Lab) -> None:
    first = lab.fit(Small, max_length=mt.Batch(5)).result.checkpoint
    second = lab.fit(Small, lab.context(checkpoints=[str(first)]), max_length=mt.Batch(8)).result.checkpoint
    damage(lab, str(second))
    run = lab.fit(Small, lab.context(checkpoints=[str(second), str(first)]))
    assert [e.uuid for e in run.channel.of(CheckpointRejected)] == [second]
    assert run.channel.of(TrialStarted)[0].batches == 5
    assert any(str(second) in e.message and f"going on from {first}" in e.message for e in run.channel.of(Notice))


def test_a_trial_whose_only_checkpoint_is_damaged_starts_from_the_beginning(lab: Lab) -> None:
    first = str(lab.fit(Small).result.checkpoint)
    damage(lab, first)
    run = lab.fit(Small, lab.context(checkpoints=[first]))
    assert run.channel.of(TrialStarted)[0].batches == 0
    assert any("starting from the beginning" in e.message for e in run.channel.of(Notice))


def test_a_checkpoint_that_cannot_be_found_is_an_error_rather_than_a_fresh_start(lab: Lab) -> None:
    with pytest.raises(CheckpointError):
        lab.fit(Small, lab.context(checkpoints=["00000000-0000-4000-8000-000000000000"]))


def test_a_script_goes_on_from_a_checkpoint_by_uuid_or_path(lab: Lab) -> None:
    first = str(lab.fit(Small, max_length=mt.Batch(5)).result.checkpoint)
    straight = lab.fit(Small)
    for latest in (first, lab.folder / "checkpoints" / first):
        run = lab.fit(Small, latest_checkpoint=latest)
        assert same(run.weights, straight.weights)
        assert run.result.checkpoint != first


def test_an_explicit_checkpoint_that_is_damaged_is_an_error(lab: Lab) -> None:
    first = str(lab.fit(Small).result.checkpoint)
    damage(lab, first)
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        lab.fit(Small, latest_checkpoint=first)


def test_a_checkpoint_of_another_model_names_what_differs(lab: Lab) -> None:
    class Other(Small):
        def build_model(self) -> Any:
            return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))

    first = str(lab.fit(Small).result.checkpoint)
    context = lab.context(checkpoints=[first])
    trainer = mt.Trainer(Other(context), context)
    with pytest.raises(TrialError, match=r"(?s)do not fit the model.*1\.weight"):
        trainer.fit(max_length=mt.Batch(20))
    assert trainer.batches == 10


def test_another_batch_size_inside_an_epoch_is_refused(lab: Lab) -> None:
    first = str(lab.fit(Small).result.checkpoint)
    with pytest.raises(TrialError, match="inside an epoch of 13 batches, but the training data now gives 7"):
        lab.fit(Small, lab.context({"global_batch_size": 16}), latest_checkpoint=first, max_length=mt.Batch(20))


def test_state_that_a_checkpoint_cannot_hold_is_named(lab: Lab) -> None:
    class Hoarder(Small):
        def state_dict(self) -> dict[str, Any]:
            return {"thing": object()}

    with pytest.raises(CheckpointError, match=r"trial\.thing"):
        lab.fit(Hoarder)


@pytest.mark.parametrize("by", ["folder", "url", "id", "beginning"])
def test_a_script_names_what_it_goes_on_from_in_any_way(
    lab: Lab, by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uuid = str(lab.fit(Small, max_length=mt.Batch(4)).result.checkpoint)
    folder = lab.folder / "checkpoints" / uuid
    monkeypatch.setenv("MNIST_TRIALS_HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "checkpoints").mkdir(parents=True)
    (tmp_path / "home" / "checkpoints" / "7").symlink_to(folder.parent)
    name = {"folder": folder, "url": f"file://{folder}", "id": uuid, "beginning": uuid[:8]}[by]
    run = lab.fit(Small, latest_checkpoint=name)
    assert [(event.batches, event.checkpoint) for event in run.channel.of(TrialStarted)] == [(4, uuid)]
    assert run.result.batches == 10
