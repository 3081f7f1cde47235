"""What callbacks change of a trial is in the programs from then on."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from typing_extensions import override

import mnist_trials as mt
from tests.training.lab import Lab, Small
from tests.training.programwise.pairs import Normed, apart, both


class Freezing(Small):
    @override
    def build_callbacks(self) -> Any:
        trial = self

        class Thaw(mt.Callback):
            @override
            def on_epoch_start(self, epoch_idx: int) -> None:
                trial.model[1].requires_grad_(epoch_idx > 0)

        return [Thaw()]


def test_what_callbacks_freeze_and_thaw_is_seen(lab: Lab) -> None:
    eager, program = both(lab, Freezing, {"momentum": 0.9}, batches=30)
    assert apart(eager, program) < 1e-6


class Changing(Small):
    """Has something in a callback changed after each epoch that programs have in them."""

    @override
    def build_callbacks(self) -> Any:
        trial = self

        class Change(mt.Callback):
            @override
            def on_epoch_end(self, epoch_idx: int) -> None:
                trial.change()

        return [Change()]

    def change(self) -> None:
        raise NotImplementedError


class OtherDropout(Changing):
    @override
    def change(self) -> None:
        self.model[3].p = 0.0


class OtherLayer(Changing):
    @override
    def change(self) -> None:
        self.model[2] = torch.nn.Tanh()


class OtherTensor(Changing):
    def __init__(self, context: Any) -> None:
        super().__init__(context)
        self.scale = torch.tensor(1.0)

    @override
    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        return super().train_batch(batch, epoch_idx, batch_idx)["loss"] * self.scale

    @override
    def change(self) -> None:
        self.scale = self.scale * 0.1


class OtherBuffer(Changing, Normed):
    @override
    def change(self) -> None:
        self.model[2].running_mean = torch.full((8,), 0.5)


class OptimizerAnew(Changing):
    @override
    def change(self) -> None:
        self.optimizer.state.clear()


@pytest.mark.parametrize("trial", [OtherDropout, OtherLayer, OtherTensor, OtherBuffer, OptimizerAnew])
def test_what_callbacks_put_in_the_place_of_something_is_used(lab: Lab, trial: type[mt.Trial]) -> None:
    eager, program = both(lab, trial, {"momentum": 0.9}, batches=30)
    assert apart(eager, program) < 1e-6
    assert program.result.metrics == pytest.approx(eager.result.metrics, abs=1e-5)
