"""The optimizer that hyperparameters name."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mnist_trials.errors import TrialError
from mnist_trials.training.torch_models.optimizers import OPTIMIZERS, optimizer_from_hparams
from tests.training.lab import Lab, Small, same


def parameters() -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(torch.ones(2))]


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_every_registered_optimizer_trains_and_goes_through_a_checkpoint(lab: Lab, name: str) -> None:
    import mnist_trials as mt

    hparams = {"optimizer": name, "learning_rate": 0.01}
    straight = lab.fit(Small, lab.context(hparams), max_length=mt.Batch(6))
    first = lab.fit(Small, lab.context(hparams), max_length=mt.Batch(3))
    context = lab.context(hparams, checkpoints=[str(first.result.checkpoint)])
    assert same(lab.fit(Small, context, max_length=mt.Batch(6)).weights, straight.weights)
    assert not same(first.weights, straight.weights)


def test_names_know_no_case_and_options_are_handed_on() -> None:
    hparams = {"optimizer": "SGD", "learning_rate": 0.5, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}
    optimizer = optimizer_from_hparams(parameters(), {**hparams, "dropout": 0.5, "alpha": 3})
    assert isinstance(optimizer, torch.optim.SGD)
    group = optimizer.param_groups[0]
    assert (group["lr"], group["momentum"], group["nesterov"], group["weight_decay"]) == (0.5, 0.9, True, 0.1)


def test_betas_may_be_a_list_as_yaml_has_it() -> None:
    hparams = {"optimizer": "adamw", "learning_rate": 0.1, "betas": [0.5, 0.6]}
    assert optimizer_from_hparams(parameters(), hparams).param_groups[0]["betas"] == (0.5, 0.6)


@pytest.mark.parametrize(
    ("hparams", "message"),
    [
        ({}, r"does not override build_optimizer.*optimizer and learning_rate missing.*adadelta.*sgd"),
        ({"optimizer": "sgd"}, "learning_rate missing"),
        ({"learning_rate": 0.1}, "optimizer missing"),
        (
            {"optimizer": "adm", "learning_rate": 0.1},
            r"No optimizer is named 'adm'. Did you mean 'adam'\? Known: adadelta",
        ),
        ({"optimizer": 3, "learning_rate": 0.1}, "No optimizer is named 3"),
        ({"optimizer": "adam", "learning_rate": 0.1, "momentum": 0.9}, "'adam' takes no momentum. It takes: .*betas"),
        ({"optimizer": "sgd", "learning_rate": -1}, "'sgd' refuses its hyperparameters: Invalid learning rate"),
        ({"optimizer": "sgd", "learning_rate": "fast"}, "'sgd' refuses its hyperparameters"),
    ],
)
def test_hyperparameters_that_name_no_optimizer_are_errors(hparams: dict[str, Any], message: str) -> None:
    with pytest.raises(TrialError, match=message):
        optimizer_from_hparams(parameters(), hparams)
