"""The hyperparameter `lr_schedule`, in trainings of a torch trial."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import ExponentialLR, StepLR

import mnist_trials as mt
from mnist_trials.errors import TrialError
from mnist_trials.training.torch_models.rates import CurveLR, schedules_from_hparams
from tests.training.lab import Lab, Small, same

HALVES = {"name": "exponential", "gamma": 0.5}
MIXED = {
    "name": "sequence",
    "per": "batch",
    "schedules": [
        {"name": "linear", "steps": 4, "start_factor": 0.1, "total_iters": 4},
        {"name": "cosine_decay", "total_iters": 9},
    ],
}


class Recorded(Small):
    """Remembers the rate of each batch."""

    def __init__(self, context: Any) -> None:
        super().__init__(context)
        self.rates: list[float] = []

    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        self.rates.append(self.optimizer.param_groups[0]["lr"])
        return super().train_batch(batch, epoch_idx, batch_idx)


@pytest.mark.parametrize(
    ("per", "halvings"), [("epoch", [0] * 13 + [1] * 2), ("batch", range(15)), ("optimizer_step", [0, 0, 1, 1, 2, 2])]
)
def test_a_trial_that_builds_no_schedule_has_the_one_of_the_hyperparameter(lab: Lab, per: str, halvings: Any) -> None:
    context = lab.context({"lr_schedule": {**HALVES, "per": per}, "aggregation_frequency": 2})
    run = lab.fit(Recorded, context, max_length=mt.Batch(len(halvings)))
    assert run.trial.rates == pytest.approx([0.1 * 0.5**n for n in halvings])


def test_a_trial_that_builds_its_own_schedule_is_not_given_another(lab: Lab) -> None:
    class Own(Recorded):
        def build_lr_scheduler(self, optimizer: Any) -> Any:
            return mt.LRSchedule(ExponentialLR(optimizer, 0.1), per="batch")

    run = lab.fit(Own, lab.context({"lr_schedule": HALVES}), max_length=mt.Batch(3))
    assert run.trial.rates == pytest.approx([0.1, 0.01, 0.001])


@pytest.mark.parametrize("stop", range(1, 10))
def test_a_resumed_training_has_the_rates_of_an_undisturbed_one(lab: Lab, stop: int) -> None:
    hparams = {"lr_schedule": MIXED, "momentum": 0.9}
    straight = lab.fit(Recorded, lab.context(hparams))
    first = lab.fit(Recorded, lab.context(hparams), max_length=mt.Batch(stop))
    second = lab.fit(Recorded, lab.context(hparams, checkpoints=[str(first.result.checkpoint)]))
    assert first.trial.rates + second.trial.rates == straight.trial.rates
    assert same(second.weights, straight.weights)


def test_each_optimizer_and_each_group_of_parameters_keeps_its_own_base() -> None:
    def parameter() -> torch.nn.Parameter:
        return torch.nn.Parameter(torch.zeros(1))

    first = torch.optim.SGD([{"params": [parameter()]}, {"params": [parameter()], "lr": 4.0}], lr=1.0)
    second = torch.optim.Adam([parameter()], lr=0.5)
    schedules = schedules_from_hparams({"a": first, "b": second}, {"lr_schedule": HALVES})
    for schedule in schedules:
        schedule.scheduler.optimizer.step()
        schedule.scheduler.step()
    assert [group["lr"] for optimizer in (first, second) for group in optimizer.param_groups] == [0.5, 2.0, 0.25]


def test_it_goes_on_from_the_state_of_torchs_own_scheduler() -> None:
    """As in checkpoints of before the schedules were functions."""
    optimizers = [torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0) for _ in range(2)]
    theirs = StepLR(optimizers[0], 2, 0.5)
    (ours,) = schedules_from_hparams(optimizers[1], {"lr_schedule": {"name": "step", "step_size": 2, "gamma": 0.5}})
    for _ in range(3):
        optimizers[0].step()
        theirs.step()
    ours.scheduler.load_state_dict(theirs.state_dict())
    for _ in range(2):
        for optimizer, scheduler in zip(optimizers, (theirs, ours.scheduler), strict=True):
            optimizer.step()
            scheduler.step()
        assert ours.scheduler.get_last_lr() == theirs.get_last_lr()


def test_a_checkpoint_holds_the_step_and_no_curve(lab: Lab) -> None:
    run = lab.fit(Small, lab.context({"lr_schedule": MIXED}), max_length=mt.Batch(3))
    (state,) = lab.read(str(run.result.checkpoint)).state["schedules"]
    assert state["last_epoch"] == 3
    assert set(state) == {"base_lrs", "last_epoch", "_step_count", "_last_lr"}


def test_a_mistake_ends_the_trial_and_says_what_is_allowed(lab: Lab) -> None:
    with pytest.raises(TrialError, match=r"No learning rate schedule is named 'cosin'\. Did you mean 'cosine'"):
        lab.fit(Small, lab.context({"lr_schedule": "cosin"}))


def test_an_optimizer_whose_rate_is_a_tensor_is_changed_in_place() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=torch.tensor(1.0), foreach=False)
    scheduler = CurveLR(optimizer, lambda base, step: base * 0.5**step)
    place = optimizer.param_groups[0]["lr"].data_ptr()
    optimizer.step()
    scheduler.step()
    assert float(optimizer.param_groups[0]["lr"]) == 0.5
    assert optimizer.param_groups[0]["lr"].data_ptr() == place
