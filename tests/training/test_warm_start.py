"""A trial that starts with the weights of another one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import mnist_trials as mt
from mnist_trials.errors import CheckpointError, TrialError
from mnist_trials.events import CheckpointRejected, Notice, TrialStarted, ValidationCompleted
from tests.training.lab import Lab, Run, Small, same
from tests.training.stateful import Adam


def messages(run: Run) -> list[str]:
    return [event.message for event in run.channel.of(Notice)]


@pytest.mark.parametrize("by", ["uuid", "folder"])
def test_it_takes_weights_and_nothing_else(lab: Lab, by: str) -> None:
    first = lab.fit(Adam)
    uuid = str(first.result.checkpoint)
    source = uuid if by == "uuid" else str(lab.folder / "checkpoints" / uuid)
    run = lab.fit(Adam, lab.context(warm_start=source), step_zero_validation=True)
    assert [(event.batches, event.checkpoint) for event in run.channel.of(TrialStarted)] == [(0, uuid)]
    assert run.channel.of(ValidationCompleted)[0].metrics == first.result.metrics
    assert run.result.batches == 10
    assert any(
        f"starts with the weights of the checkpoint {uuid} (trial 1, after 10 batches)" in m for m in messages(run)
    )


def test_everything_but_the_weights_is_as_in_a_fresh_start(lab: Lab) -> None:
    """Order of the data, dropout, optimizer and schedules: seen by a source that was never trained."""

    class Untrained(Adam):
        def build_optimizer(self, model: Any) -> Any:
            return torch.optim.AdamW(model.parameters(), lr=0.0, weight_decay=0.0)

    source = str(lab.fit(Untrained).result.checkpoint)
    fresh, warm = lab.fit(Adam), lab.fit(Adam, lab.context(warm_start=source))
    assert same(warm.weights, fresh.weights)
    assert same(lab.read(str(warm.result.checkpoint)).state, lab.read(str(fresh.result.checkpoint)).state)


def test_the_source_may_lie_in_another_storage(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Lab(tmp_path / "other")
    context = other.context(experiment_id=7)
    context.trial_id = 3
    source = other.fit(Small, context)
    location = other.storage.locate(str(source.result.checkpoint))
    run = lab.fit(Small, lab.context(warm_start=location), step_zero_validation=True)
    assert run.channel.of(ValidationCompleted)[0].metrics == source.result.metrics
    assert any("(trial 3 of experiment 7, after 10 batches)" in message for message in messages(run))


def test_a_checkpoint_of_its_own_goes_before(lab: Lab) -> None:
    source = str(lab.fit(Small).result.checkpoint)
    own = str(lab.fit(Small, max_length=mt.Batch(4)).result.checkpoint)
    run = lab.fit(Small, lab.context(warm_start=source, checkpoints=[own]))
    assert run.channel.of(TrialStarted)[0].batches == 4
    assert not any("weights" in message for message in messages(run))


def test_where_its_own_is_damaged_it_starts_warm_again(lab: Lab) -> None:
    source = str(lab.fit(Small).result.checkpoint)
    own = str(lab.fit(Small, max_length=mt.Batch(4)).result.checkpoint)
    _damage(lab, own)
    run = lab.fit(Small, lab.context(warm_start=source, checkpoints=[own]))
    assert [event.uuid for event in run.channel.of(CheckpointRejected)] == [own]
    assert run.channel.of(TrialStarted)[0].batches == 0
    assert any(f"starting with the weights of {source}" in message for message in messages(run))


def test_weights_of_another_model_are_refused(lab: Lab) -> None:
    class Other(Small):
        def build_model(self) -> Any:
            return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))

    source = str(lab.fit(Small).result.checkpoint)
    with pytest.raises(TrialError, match=rf"(?s)cannot start with the weights of the checkpoint {source}.*1\.weight"):
        lab.fit(Other, lab.context(warm_start=source))


@pytest.mark.parametrize("where", ["00000000-0000-4000-8000-000000000000", "/nowhere/at/all"])
def test_a_source_that_is_not_there_is_named(lab: Lab, where: str) -> None:
    with pytest.raises(CheckpointError, match=f"was to start with the weights of checkpoint {where}.*{where}"):
        lab.fit(Small, lab.context(warm_start=where))


def test_a_source_that_is_damaged_is_not_used(lab: Lab) -> None:
    source = str(lab.fit(Small).result.checkpoint)
    _damage(lab, source)
    with pytest.raises(CheckpointError, match=r"was to start with the weights of.*model\.safetensors"):
        lab.fit(Small, lab.context(warm_start=source))


def _damage(lab: Lab, uuid: str) -> None:
    path = lab.folder / "checkpoints" / uuid / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
