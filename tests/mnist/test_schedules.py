"""Learning rate schedules by name."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mnist_trials.errors import TrialError
from mnist_trials.mnist.schedules import SCHEDULES, schedule_from_hparams

OPTIONS: dict[str, dict[str, Any]] = {
    "step": {"step_size": 1, "gamma": 0.5},
    "multistep": {"milestones": [1], "gamma": 0.5},
    "exponential": {"gamma": 0.5},
    "linear": {"start_factor": 1.0, "end_factor": 0.5, "total_iters": 1},
    "polynomial": {"total_iters": 2, "power": 1.0},
    "cosine": {"T_max": 2},
    "cosine_restarts": {"T_0": 2},
}


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)


def test_without_the_hyperparameter_there_is_no_schedule() -> None:
    assert schedule_from_hparams(optimizer(), {}) is None
    assert schedule_from_hparams(optimizer(), {"lr_schedule": None}) is None


@pytest.mark.parametrize("described", ["constant", {"name": "constant"}])
def test_constant_is_no_schedule(described: object) -> None:
    assert schedule_from_hparams(optimizer(), {"lr_schedule": described}) is None


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_every_schedule_halves_the_rate_in_one_step_with_these_options(name: str) -> None:
    sgd = optimizer()
    schedule = schedule_from_hparams(sgd, {"lr_schedule": {"name": name, **OPTIONS[name]}})
    assert schedule is not None
    assert schedule.per == "epoch"
    sgd.step()
    schedule.scheduler.step()
    assert sgd.param_groups[0]["lr"] == pytest.approx(0.5)


def test_every_name_is_tried_here() -> None:
    assert {*OPTIONS, "constant"} == set(SCHEDULES)


def test_a_schedule_may_step_after_every_batch() -> None:
    schedule = schedule_from_hparams(optimizer(), {"lr_schedule": {"name": "cosine", "T_max": 100, "per": "batch"}})
    assert schedule is not None
    assert schedule.per == "batch"


@pytest.mark.parametrize(
    ("described", "message"),
    [
        ({"name": "cosin"}, r"named 'cosin'\. Did you mean 'cosine'\?"),
        ({"name": "step", "stepsize": 2}, r"no option 'stepsize'\. Did you mean 'step_size'\? It takes: .*per"),
        ({"name": "step"}, r"refuses its options: .*step_size"),
        ({"name": "cosine", "T_max": "many"}, r"'T_max' of .* 'cosine' is a whole number of at least 1, not 'many'"),
        ({"name": "step", "step_size": 0}, r"'step_size' of .* 'step' is a whole number of at least 1, not 0"),
        ({"name": "step", "step_size": 2, "gamma": True}, r"'gamma' of .* 'step' is a number, not True"),
        ({"name": "multistep", "milestones": 3}, r"'milestones' of .* is a list of whole numbers, not 3"),
        ({"step_size": 2}, r"a name or a map with `name`"),
        ({"name": "exponential", "gamma": 0.5, "per": "week"}, r"not per 'week'"),
    ],
)
def test_a_mistake_is_refused_with_what_is_allowed(described: object, message: str) -> None:
    with pytest.raises(TrialError, match=message):
        schedule_from_hparams(optimizer(), {"lr_schedule": described})
