"""What `train_batch` returns: a loss, alone or among metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from mnist_trials.errors import TrialError
from mnist_trials.training.measures.metrics import Weighted


def as_metrics(result: object, manual: bool) -> dict[str, Any]:
    """The metrics in what `train_batch` returned; `manual`: the trial steps itself, and may return nothing.

    Raises:
        TrialError: it returned neither a loss nor metrics.
    """
    if isinstance(result, torch.Tensor | Weighted):
        return {"loss": result}
    if isinstance(result, Mapping):
        return dict(result)
    if result is None and manual:
        return {}
    returned = "nothing (is a `return` missing?)" if result is None else type(result).__name__
    raise TrialError(
        f"train_batch must return the loss, or a dict of metrics with the loss as 'loss'; it returned {returned}."
    )


def checked_loss(metrics: Mapping[str, Any], size: int) -> tuple[torch.Tensor, float]:
    """The loss among `metrics` of a batch of `size` samples, and what it weighs.

    Raises:
        TrialError: there is none, or it cannot be learnt from.
    """
    loss = metrics.get("loss")
    weight: float = size
    if isinstance(loss, Weighted):
        weight, loss = loss.weight, loss.value
    if "loss" not in metrics:
        raise TrialError(
            "The dict that train_batch returned has no 'loss'. It has: "
            f"{', '.join(map(str, metrics)) or 'nothing'}. (A trial that calls self.context.backward(loss) and "
            "self.context.step_optimizer(optimizer) itself need not return one.)"
        )
    if not isinstance(loss, torch.Tensor):
        raise TrialError(f"The loss must be a tensor, to be learnt from; train_batch returned {loss!r}.")
    if loss.numel() != 1:
        raise TrialError(
            f"The loss must be a single number; train_batch returned a tensor of shape {tuple(loss.shape)}. Is a "
            ".mean() missing?"
        )
    if not loss.requires_grad:
        raise TrialError(
            "The loss that train_batch returned does not depend on any parameter that requires gradients. Was it "
            "detached (.item(), .detach(), torch.no_grad()), or is the whole model frozen?"
        )
    return loss, weight
