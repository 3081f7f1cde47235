"""Losses by name: mse, cross_entropy, nll, and torch's own names for them.

Every one takes logits, [n, classes], and a target that is either class numbers, int64 of [n], or vectors, [n, classes]
(one-hot or any distribution), and returns the mean over the batch as a scalar.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch.nn import functional

from mnist_trials.training.torch_models.registry import Registry

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def mse(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The mean of the squared differences between logits and the one-hot target, over all n * classes of them."""
    return functional.mse_loss(logits, as_vectors(target, logits))


def cross_entropy(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Softmax cross entropy."""
    return functional.cross_entropy(logits, target if target.ndim == 1 else target.to(logits.dtype))


def nll(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Log-softmax and then the negative log-likelihood, in two steps; in exact numbers the same as cross entropy."""
    return functional.nll_loss(functional.log_softmax(logits, dim=1), as_classes(target))


def as_vectors(target: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """`target` as vectors in the shape and dtype of `like`."""
    if target.ndim == like.ndim:
        return target.to(like.dtype)
    return torch.zeros_like(like).scatter_(1, target.unsqueeze(1), 1.0)


def as_classes(target: torch.Tensor) -> torch.Tensor:
    """`target` as class numbers, int64 of [n]."""
    return target if target.ndim == 1 else target.argmax(dim=1)


LOSSES: Final[Registry[Loss]] = Registry(
    "loss",
    {
        "mse": mse,
        "cross_entropy": cross_entropy,
        "nll": nll,
        "torch.nn.MSELoss": mse,
        "torch.nn.CrossEntropyLoss": cross_entropy,
        "torch.nn.NLLLoss": nll,
    },
)
"""Losses that the hyperparameter `loss` may name."""
