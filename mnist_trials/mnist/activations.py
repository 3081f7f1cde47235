"""Activations by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from torch import nn

from mnist_trials.training.torch_models.registry import Registry

ACTIVATIONS: Final[Registry[Callable[[], nn.Module]]] = Registry(
    "activation",
    {
        "relu": nn.ReLU,
        "gelu": nn.GELU,
        "gelu_tanh": partial(nn.GELU, approximate="tanh"),
        "tanh": nn.Tanh,
        "sigmoid": nn.Sigmoid,
        "silu": nn.SiLU,
        "leaky_relu": nn.LeakyReLU,
        "none": nn.Identity,
    },
)
"""Activations that the hyperparameter `activation` may name; each call makes a new module."""
