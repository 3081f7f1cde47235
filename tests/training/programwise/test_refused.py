"""What no program can do is refused, with the line and what to do instead, or done without one and said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy
from typing_extensions import override

import mnist_trials as mt
from mnist_trials.errors import ProgramError, TrialError
from tests.training.lab import Lab, Small
from tests.training.programwise.pairs import PROGRAM, both


def refused(lab: Lab, trial: type[mt.Trial], hparams: Mapping[str, Any] | None = None, **config: Any) -> str:
    with pytest.raises(TrialError) as caught:
        lab.fit(trial, lab.context(hparams, {**PROGRAM, **config}))
    assert isinstance(caught.value, ProgramError)
    return str(caught.value)


class Looking(Small):
    @override
    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        loss = super().train_batch(batch, epoch_idx, batch_idx)["loss"]
        return {"loss": loss, "twice": loss.item() * 2}  # the line


def test_a_look_at_a_value_is_refused_and_the_line_named(lab: Lab) -> None:
    text = refused(lab, Looking)
    assert "test_refused.py:" in text
    assert '"twice": loss.item() * 2}  # the line' in text
    assert "compile: true" in text


class Stepping(Small):
    @override
    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        self.context.backward(super().train_batch(batch, epoch_idx, batch_idx)["loss"])
        self.context.step_optimizer(self.optimizer)


class Counting(Small):
    seen = 0

    def __init__(self, context: Any) -> None:
        super().__init__(context)
        self.count = 0

    @override
    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        self.count += 1
        return super().train_batch(batch, epoch_idx, batch_idx)


class WarmingUp(Small):
    @override
    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        loss = super().train_batch(batch, epoch_idx, batch_idx)["loss"]
        return loss * min(1.0, batch_idx / 10)


class Gambling(Small):
    @override
    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        import random

        return super().train_batch(batch, epoch_idx, batch_idx)["loss"] * (1 + random.random())


class Telling(Small):
    @override
    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        metrics = super().train_batch(batch, epoch_idx, batch_idx)
        return {**metrics, "rate": self.optimizer.param_groups[0]["lr"]}


@pytest.mark.parametrize(
    ("trial", "hparams", "config", "said"),
    [
        (Stepping, {}, {}, "return the loss and leave the step to the runtime"),
        (Counting, {}, {}, "sets self.count"),
        (WarmingUp, {}, {}, "train_batch uses batch_idx"),
        (Gambling, {}, {}, "random numbers from Python"),
        (Telling, {}, {}, "the metric 'rate' 0.1, which a program would repeat"),
        (Small, {}, {"on_nan": "skip"}, "on_nan: stop"),
        (Small, {"momentum": 0.9, "dampening": 0.5}, {}, "dampening"),
    ],
    ids=["steps", "state", "batch_idx", "random", "numbers", "on_nan", "dampening"],
)
def test_what_no_program_can_do_is_refused(
    lab: Lab, trial: type[mt.Trial], hparams: dict[str, Any], config: dict[str, Any], said: str
) -> None:
    assert said in refused(lab, trial, hparams, **config)


class OwnOptimizer(Small):
    @override
    def build_optimizer(self, model: Any) -> Any:
        return torch.optim.LBFGS(model.parameters())


def test_an_optimizer_without_a_rule_is_refused_and_those_with_one_are_named(lab: Lab) -> None:
    text = refused(lab, OwnOptimizer)
    assert "LBFGS" in text
    assert "AdamW" in text


class Cycling(Small):
    @override
    def build_optimizer(self, model: Any) -> Any:
        return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    @override
    def build_lr_scheduler(self, optimizer: Any) -> Any:
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=100)
        return mt.LRSchedule(cycle, per="batch")


def test_an_option_that_changes_with_every_batch_is_refused_before_it_costs_much(lab: Lab) -> None:
    with pytest.raises(ProgramError, match="cycle_momentum=False"):
        lab.fit(Cycling, lab.context({}, PROGRAM), max_length=mt.Batch(30))


class Hooked(Small):
    @override
    def build_model(self) -> Any:
        model = super().build_model()
        model[1].weight.register_hook(lambda gradient: gradient * 0.5)
        return model


class Recomputing(Small):
    @override
    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        from torch.utils.checkpoint import checkpoint

        images, labels = batch
        return cross_entropy(checkpoint(self.model, images, use_reentrant=False), labels)


class Seeding(Small):
    @override
    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        torch.manual_seed(1)
        return super().train_batch(batch, epoch_idx, batch_idx)


@pytest.mark.parametrize(
    ("trial", "said"),
    [
        (Hooked, "The parameters 1.weight have hooks"),
        (Recomputing, "preserve_rng_state=False"),
        (Seeding, "(`torch.manual_seed(1)`) sets the state of torch's random numbers"),
    ],
)
def test_what_a_program_would_do_once_or_never_is_refused(lab: Lab, trial: type[mt.Trial], said: str) -> None:
    before = torch.manual_seed, torch.set_rng_state, torch.random.set_rng_state
    assert said in refused(lab, trial, {})
    assert before == (torch.manual_seed, torch.set_rng_state, torch.random.set_rng_state)


class Metered(Small):
    def __init__(self, context: Any) -> None:
        import torchmetrics

        super().__init__(context)
        self.accuracy = torchmetrics.classification.MulticlassAccuracy(3)

    @override
    def evaluate_batch(self, batch: Any, batch_idx: int) -> Any:
        images, labels = batch
        logits = self.model(images)
        self.accuracy.update(logits, labels)
        return {"validation_loss": cross_entropy(logits, labels), "accuracy": self.accuracy}


def test_a_validation_that_no_program_can_do_is_done_without_one_and_said(lab: Lab) -> None:
    eager, program = both(lab, Metered)
    assert program.result.metrics == pytest.approx(eager.result.metrics, abs=1e-6)
    assert any(text.startswith("Validations are computed without a program.") for text in program.notices)
