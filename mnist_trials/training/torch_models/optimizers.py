"""The optimizer of a trial that does not build its own: chosen by hyperparameters, by registered name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import torch
from torch import optim

from mnist_trials.errors import TrialError
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

OPTIONS: Final = (
    "momentum",
    "dampening",
    "nesterov",
    "weight_decay",
    "betas",
    "eps",
    "rho",
    "amsgrad",
    "centered",
)
"""Hyperparameters that are handed to the optimizer as they are, where it takes them."""


def optimizer_from_hparams(
    parameters: Iterable[torch.nn.Parameter], hparams: Mapping[str, Any]
) -> torch.optim.Optimizer:
    """The optimizer that the hyperparameters `optimizer`, `learning_rate` and those of OPTIONS describe.

    Raises:
        TrialError: one of the two is missing, the name is unknown, or the optimizer does not take an option or value.
    """
    absent = [name for name in ("optimizer", "learning_rate") if hparams.get(name) is None]
    if absent:
        raise TrialError(
            "The trial does not override build_optimizer(model), and the hyperparameters do not say which optimizer "
            f"to use: {' and '.join(absent)} missing. Return an optimizer from build_optimizer, or give `optimizer` "
            f"(one of: {', '.join(OPTIMIZERS)}) and `learning_rate`."
        )
    name = hparams["optimizer"]
    make = OPTIMIZERS[name]
    options = {option: hparams[option] for option in OPTIONS if hparams.get(option) is not None}
    taken = set(inspect.signature(make).parameters)
    if refused := [option for option in options if option not in taken]:
        allowed = ", ".join(option for option in OPTIONS if option in taken)
        raise TrialError(f"The optimizer '{name}' takes no {' and no '.join(refused)}. It takes: {allowed}.")
    if isinstance(options.get("betas"), list):
        options["betas"] = tuple(options["betas"])
    try:
        return make(parameters, lr=hparams["learning_rate"], **options)
    except (TypeError, ValueError) as error:
        raise TrialError(f"The optimizer '{name}' refuses its hyperparameters: {error}.") from error
