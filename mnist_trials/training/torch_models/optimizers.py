"""The optimizer of a trial that does not build its own: chosen by hyperparameters, by registered name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import torch
from torch import optim

from mnist_trials.errors import TrialError
from mnist_trials.plugin.updates import optimizer_options, refuse_other_options
from mnist_trials.training.torch_models.registry import Registry

OPTIMIZERS: Final[Registry[Callable[..., optim.Optimizer]]] = Registry(
    "optimizer",
    {
        "adadelta": optim.Adadelta,
        "adagrad": optim.Adagrad,
        "adam": optim.Adam,
        "adamax": optim.Adamax,
        "adamw": optim.AdamW,
        "asgd": optim.ASGD,
        "nadam": optim.NAdam,
        "radam": optim.RAdam,
        "rmsprop": optim.RMSprop,
        "rprop": optim.Rprop,
        "sgd": optim.SGD,
    },
)
"""Optimizers that the hyperparameter `optimizer` may name."""


def optimizer_from_hparams(
    parameters: Iterable[torch.nn.Parameter], hparams: Mapping[str, Any]
) -> torch.optim.Optimizer:
    """The optimizer that the hyperparameters `optimizer`, `learning_rate` and those of OPTIMIZER_OPTIONS describe.

    Raises:
        TrialError: one of the two is missing, the name is unknown, or the optimizer does not take an option or value.
    """
    options = optimizer_options(hparams, OPTIMIZERS, build="an optimizer")
    name = hparams["optimizer"]
    make = OPTIMIZERS[name]
    refuse_other_options(f"'{name}'", options, inspect.signature(make).parameters)
    if isinstance(options.get("betas"), list):
        options["betas"] = tuple(options["betas"])
    try:
        return make(parameters, lr=hparams["learning_rate"], **options)
    except (TypeError, ValueError) as error:
        raise TrialError(f"The optimizer '{name}' refuses its hyperparameters: {error}.") from error
