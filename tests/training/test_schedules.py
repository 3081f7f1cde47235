"""Learning-rate schedules: when each is stepped, and that checkpoints keep them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler as torch_schedules

import mnist_trials as mt
from mnist_trials.errors import TrialError
from tests.training.lab import Lab, Small, same


def scheduled(build: Any) -> type[mt.Trial]:
    class Scheduled(Small):
        rates: list[float]

        def build_optimizer(self, model: Any) -> Any:
            return torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)

        def build_lr_scheduler(self, optimizer: Any) -> Any:
            self.rates = []
            return build(optimizer)

        def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
            self.rates.append(round(self.optimizer.param_groups[0]["lr"], 6))
            return super().train_batch(batch, epoch_idx, batch_idx)

    return Scheduled


def halving(optimizer: Any) -> Any:
    return torch_schedules.LambdaLR(optimizer, lambda step: 0.5**step)


@pytest.mark.parametrize(
    ("build", "rates"),
    [
        (halving, [1.0] * 13 + [0.5] * 2),
        (lambda o: mt.LRSchedule(halving(o)), [1.0] * 13 + [0.5] * 2),
        (lambda o: mt.LRSchedule(halving(o), per="batch"), [round(0.5**n, 6) for n in range(15)]),
        (
            lambda o: mt.LRSchedule(halving(o), per="optimizer_step"),
            [0.5 ** (n // 4) for n in range(13)] + [0.0625] * 2,
        ),
        (lambda o: None, [1.0] * 15),
        (lambda o: {"a": halving(o)}, [1.0] * 13 + [0.5] * 2),
    ],
)
def test_a_schedule_is_stepped_per_epoch_batch_or_optimizer_step(lab: Lab, build: Any, rates: list[float]) -> None:
    run = lab.fit(scheduled(build), lab.context({"aggregation_frequency": 4}), max_length=mt.Batch(15))
    assert run.trial.rates == rates


def test_a_plateau_is_stepped_by_the_metric_of_the_searcher_after_validations(lab: Lab) -> None:
    def build(optimizer: Any) -> Any:
        return torch_schedules.ReduceLROnPlateau(
            optimizer, factor=0.5, patience=0, threshold=1000.0, threshold_mode="abs"
        )

    run = lab.fit(scheduled(build), max_length=mt.Batch(8), validation_period=mt.Batch(2))
    assert run.trial.rates == [1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.25, 0.25]


def test_a_plateau_without_a_metric_to_wait_for_is_an_error(lab: Lab) -> None:
    class Unnamed(Small):
        def build_lr_scheduler(self, optimizer: Any) -> Any:
            return torch_schedules.ReduceLROnPlateau(optimizer)

        def evaluate_batch(self, batch: Any, batch_idx: int) -> Any:
            return {"score": 1.0}

    with pytest.raises(TrialError, match=r"ReduceLROnPlateau needs the metric.*gave: score"):
        lab.fit(Unnamed, lab.context(config={}, experiment_id=0))


def test_a_plateau_must_not_be_given_a_period(lab: Lab) -> None:
    def build(optimizer: Any) -> Any:
        return mt.LRSchedule(torch_schedules.ReduceLROnPlateau(optimizer), per="batch")  # type: ignore[arg-type]

    with pytest.raises(TrialError, match="ReduceLROnPlateau is stepped after every validation"):
        lab.fit(scheduled(build))


def test_an_unknown_period_is_refused(lab: Lab) -> None:
    with pytest.raises(TrialError, match="one of epoch, batch, optimizer_step, not per 'step'"):
        lab.fit(scheduled(lambda o: mt.LRSchedule(halving(o), per="step")))  # type: ignore[arg-type]


MANY: dict[str, Any] = {
    "steps": lambda o: torch_schedules.StepLR(o, 2),
    "milestones": lambda o: torch_schedules.MultiStepLR(o, [2, 5]),
    "cosine": lambda o: torch_schedules.CosineAnnealingLR(o, 8),
    "restarts": lambda o: torch_schedules.CosineAnnealingWarmRestarts(o, 3),
    "one cycle": lambda o: torch_schedules.OneCycleLR(o, 0.1, total_steps=40),
    "cyclic": lambda o: torch_schedules.CyclicLR(o, 0.01, 0.1, step_size_up=3),
    "exponential": lambda o: torch_schedules.ExponentialLR(o, 0.9),
    "polynomial": lambda o: torch_schedules.PolynomialLR(o, 20),
    "lambda": halving,
    "sequence": lambda o: torch_schedules.SequentialLR(
        o, [torch_schedules.LinearLR(o, total_iters=3), torch_schedules.ExponentialLR(o, 0.9)], [3]
    ),
    "chain": lambda o: torch_schedules.ChainedScheduler(
        [torch_schedules.ConstantLR(o, total_iters=3), torch_schedules.ExponentialLR(o, 0.9)]
    ),
}


@pytest.mark.parametrize("name", MANY)
def test_torchs_schedules_go_through_a_checkpoint(lab: Lab, name: str) -> None:
    trial = scheduled(lambda o: mt.LRSchedule(MANY[name](o), per="batch"))
    straight = lab.fit(trial)
    first = lab.fit(trial, max_length=mt.Batch(4))
    second = lab.fit(trial, lab.context(checkpoints=[str(first.result.checkpoint)]))
    assert first.trial.rates + second.trial.rates == straight.trial.rates
    assert same(second.weights, straight.weights)


def test_a_checkpoint_with_another_number_of_schedules_is_an_error(lab: Lab) -> None:
    first = lab.fit(scheduled(halving)).result.checkpoint
    with pytest.raises(TrialError, match="state of 1 learning-rate schedules, but build_lr_scheduler returned 2"):
        lab.fit(scheduled(lambda o: [halving(o), halving(o)]), lab.context(checkpoints=[str(first)]))
