"""Trainings by programs go on from checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from typing_extensions import override

import mnist_trials as mt
from mnist_trials.events import CheckpointSaved
from tests.training.lab import SEARCHED, Lab, Small, same
from tests.training.programwise.pairs import PROGRAM, Scheduled, apart


@pytest.mark.parametrize(
    "hparams",
    [{"optimizer": "adam", "learning_rate": 0.01}, {"momentum": 0.9, "aggregation_frequency": 3}],
    ids=["whole", "in a group"],
)
def test_a_resumed_training_is_the_same_to_the_last_bit(lab: Lab, hparams: dict[str, Any]) -> None:
    def context(**more: Any) -> Any:
        return lab.context(hparams, PROGRAM, **more)

    undisturbed = lab.fit(Scheduled, context(), max_length=mt.Batch(20))
    first = lab.fit(Scheduled, context(), max_length=mt.Batch(20), checkpoint_period=mt.Batch(7))
    saved = next(event for event in first.channel.events if isinstance(event, CheckpointSaved))
    assert saved.checkpoint.batches == 7
    resumed = lab.fit(Scheduled, context(checkpoints=[saved.checkpoint.uuid]), max_length=mt.Batch(20))
    assert same(undisturbed.weights, resumed.weights)
    assert (
        undisturbed.trial.optimizer.state_dict()["param_groups"] == resumed.trial.optimizer.state_dict()["param_groups"]
    )
    assert undisturbed.result.metrics == resumed.result.metrics


def test_a_checkpoint_does_not_show_what_wrote_it(lab: Lab) -> None:
    hparams = {"optimizer": "adam", "learning_rate": 0.01}
    first = lab.fit(Small, lab.context(hparams, PROGRAM), max_length=mt.Batch(9))
    assert first.result.checkpoint is not None
    ends = [
        lab.fit(Small, lab.context(hparams, config, checkpoints=[first.result.checkpoint]), max_length=mt.Batch(15))
        for config in (SEARCHED, PROGRAM)
    ]
    assert apart(*ends) < 1e-6


class Last(Small):
    """With weights whose channels come last in memory, which no checkpoint keeps."""

    strides: list[tuple[tuple[int, ...], tuple[int, ...]]]

    @override
    def build_model(self) -> Any:
        layers = torch.nn.Sequential(
            torch.nn.Unflatten(1, (1, 4)), torch.nn.Conv2d(1, 4, 3), torch.nn.Flatten(), torch.nn.Linear(16, 3)
        )
        return layers.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @override
    def build_callbacks(self) -> Any:
        return {"strides": Strides(self)}


class Strides(mt.Callback):
    """Notes how the gradients of an open group lie."""

    def __init__(self, trial: Last) -> None:
        self.trial = trial
        trial.strides = []

    @override
    def on_validation_end(self, metrics: Mapping[str, float]) -> None:
        parameters = self.trial.model.parameters()
        self.trial.strides += [(p.stride(), p.grad.stride()) for p in parameters if p.grad is not None]


def test_gradients_of_a_checkpoint_are_laid_out_as_the_program_adds_to_them(lab: Lab) -> None:
    hparams = {"aggregation_frequency": 4}
    first = lab.fit(Last, lab.context(hparams, PROGRAM), max_length=mt.Batch(4), checkpoint_period=mt.Batch(2))
    middle = next(e.checkpoint.uuid for e in first.channel.events if isinstance(e, CheckpointSaved))
    context = lab.context(hparams, PROGRAM, checkpoints=[middle])
    resumed = lab.fit(Last, context, max_length=mt.Batch(4), validation_period=mt.Batch(3))
    assert len(resumed.trial.strides) == 4
    assert all(gradient == parameter for parameter, gradient in resumed.trial.strides)
