"""At every batch of an epoch: a training that ends there and goes on is, to the last bit, the one that never ended."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset
from typing_extensions import override

import mnist_trials as mt
from mnist_trials.events import CheckpointSaved
from mnist_trials.records import Outcome
from mnist_trials.testing.channel import RecordingChannel
from tests.training.lab import Lab, Run, same, samples, unit
from tests.training.stateful import Adam, facts

EPOCH = 5  # batches of 8 in 38 samples; the last has 6
EVERY_BATCH = range(EPOCH + 1, 2 * EPOCH + 1)  # of the second epoch: optimizer and schedules have a past
LENGTH = mt.Batch(13)
ARGUMENTS: dict[str, Any] = {
    "max_length": LENGTH,
    "reporting_period": mt.Batch(4),
    "validation_period": mt.Batch(6),
    "checkpoint_policy": "none",
}


class Drawing(Dataset[Any]):
    """Every sample depends on all three sources of randomness of the process that loads it."""

    def __init__(self) -> None:
        self.images, self.labels = samples(38)

    def __len__(self) -> int:
        return len(self.images)

    @override
    def __getitem__(self, index: int) -> Any:
        noise = random.random() + float(np.random.rand()) + float(torch.rand(()))
        return unit(self.images[index]) + 0.1 * noise, self.labels[index]


class Remembers(mt.Callback):
    """Its state is of tensors, arrays and numbers, and what it draws depends on what was drawn before."""

    def __init__(self) -> None:
        self.drawn = torch.zeros(2)
        self.array = np.zeros(2)
        self.epochs: list[int] = []

    @override
    def on_epoch_start(self, epoch_idx: int) -> None:
        self.epochs.append(epoch_idx)
        self.drawn += torch.rand(2)

    @override
    def on_validation_end(self, metrics: Any) -> None:
        self.array = self.array * 0.5 + np.random.rand(2)

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"drawn": self.drawn, "array": self.array, "epochs": self.epochs}

    @override
    def load_state_dict(self, state: Any) -> None:
        self.drawn, self.array, self.epochs = state["drawn"], state["array"], list(state["epochs"])


class OnTensors(Adam):
    """Adds to what `Adam` has: a schedule per optimizer step, random numbers in training, a callback, batch norm."""

    @override
    def build_model(self) -> Any:
        model = super().build_model()
        model.append(torch.nn.BatchNorm1d(3))
        return model

    @override
    def build_data(self) -> Any:
        return mt.TensorData(*samples(38), unit), mt.TensorData(*samples(20, seed=1), unit)

    @override
    def build_lr_scheduler(self, optimizer: Any) -> Any:
        stepped = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.95)
        return [*super().build_lr_scheduler(optimizer), mt.LRSchedule(stepped, per="optimizer_step")]

    @override
    def build_callbacks(self) -> Any:
        return {**super().build_callbacks(), "remembers": Remembers()}

    @override
    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        images, labels = batch
        shaken = images + 0.01 * float(np.random.rand()) + 0.01 * torch.rand(())
        return super().train_batch((shaken, labels), epoch_idx, batch_idx)


class OnLoader(OnTensors):
    workers = 0

    @override
    def build_data(self) -> Any:
        return DataLoader(Drawing(), batch_size=8, shuffle=True, num_workers=self.workers), DataLoader(Drawing(), 16)


class OnWorkers(OnLoader):
    workers = 2


Kind = tuple[type[mt.Trial], int]  # and the gradients that are aggregated


@pytest.fixture(
    scope="module",
    params=[(trial, group) for trial in (OnTensors, OnLoader, OnWorkers) for group in (1, 3)],
    ids=lambda kind: f"{kind[0].__name__}-{kind[1]}",
)
def undisturbed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Lab, Kind, Run]:
    """A training that was saved after every batch, and ended by nothing."""
    kind: Kind = request.param
    lab = Lab(tmp_path_factory.mktemp("undisturbed"))
    return lab, kind, lab.fit(kind[0], context(lab, kind), checkpoint_period=mt.Batch(1), **ARGUMENTS)


def context(lab: Lab, kind: Kind, *checkpoints: str, stop_at: int | None = None) -> mt.TrialContext:
    channel = RecordingChannel()
    if stop_at is not None:
        channel.stop_at_poll(stop_at)
    return lab.context({"aggregation_frequency": kind[1]}, channel=channel, checkpoints=checkpoints)


def assert_goes_on_as(straight: Run, resumed: Run, after: int, lab: Lab) -> None:
    """The rest is the same, and `max_length` counted what was done before."""
    later = [fact for fact in facts(straight) if fact[1] > after]
    assert later
    # One that was due where it was saved comes after, unless it was made before.
    assert [fact for fact in facts(resumed) if fact[1] > after] == later
    assert resumed.result.batches == LENGTH.value
    assert same(resumed.weights, straight.weights)
    left, right = (lab.read(str(run.result.checkpoint)) for run in (resumed, straight))
    assert same(left.state, right.state)
    assert left.metrics == right.metrics


@pytest.mark.parametrize("batch", EVERY_BATCH)
def test_killed_after_a_save_it_goes_on_to_the_bit(undisturbed: tuple[Lab, Kind, Run], batch: int) -> None:
    lab, kind, straight = undisturbed
    saved = {event.checkpoint.batches: event.checkpoint.uuid for event in straight.channel.of(CheckpointSaved)}
    resumed = lab.fit(kind[0], context(lab, kind, saved[batch]), checkpoint_period=mt.Batch(1), **ARGUMENTS)
    assert_goes_on_as(straight, resumed, batch, lab)


@pytest.mark.parametrize("batch", EVERY_BATCH)
def test_stopped_by_a_request_it_goes_on_to_the_bit(undisturbed: tuple[Lab, Kind, Run], batch: int) -> None:
    lab, kind, straight = undisturbed
    if kind[0] is OnWorkers and batch % 2:  # processes take long to start; the test above goes through them all
        pytest.skip("every second batch is enough here")
    stopped = lab.fit(kind[0], context(lab, kind, stop_at=batch), **ARGUMENTS)
    assert (stopped.result.outcome, stopped.result.batches) == (Outcome.PAUSED, batch)
    resumed = lab.fit(kind[0], context(lab, kind, str(stopped.result.checkpoint)), **ARGUMENTS)
    assert facts(stopped) + facts(resumed) == facts(straight)
    assert_goes_on_as(straight, resumed, batch, lab)


def test_stopped_after_every_single_batch_it_goes_on_to_the_bit(undisturbed: tuple[Lab, Kind, Run]) -> None:
    lab, kind, straight = undisturbed
    if kind[0] is OnWorkers:
        pytest.skip("13 trainings with processes of their own say no more than those without")
    told: list[Any] = []
    checkpoints: list[str] = []
    while True:
        run = lab.fit(kind[0], context(lab, kind, *checkpoints[:1], stop_at=1), **ARGUMENTS)
        told += facts(run)
        checkpoints.insert(0, str(run.result.checkpoint))
        if run.result.outcome is Outcome.COMPLETED:
            break
    assert len(checkpoints) == LENGTH.value
    assert told == facts(straight)
    assert same(run.weights, straight.weights)
