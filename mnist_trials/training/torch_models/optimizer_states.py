"""Weights and states of optimizers as checkpoints hold them: every tensor whole, however the ranks hold it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from mnist_trials.plugin import Execution, Spread


def spread_as_saved(tensor: torch.Tensor, execution: Execution) -> torch.Tensor | Spread:
    """How `tensor` lies on the ranks. Of replicas, which agree, that of rank 0 is saved: others give nothing."""
    spread = execution.spread(tensor)
    if isinstance(spread, Spread) and all(piece.rank for piece in spread.pieces):
        return replace(spread, own=None)
    return spread


def spread_state(optimizer: torch.optim.Optimizer, execution: Execution) -> dict[str, Any]:
    """What `optimizer.state_dict()` gives, and of each tensor how it lies on the ranks."""
    document = optimizer.state_dict()
    if execution.ranks.layout.size == 1:
        return document
    states = {
        index: {
            key: spread_as_saved(value, execution) if isinstance(value, torch.Tensor) else value
            for key, value in state.items()
        }
        for index, state in document["state"].items()
    }
    return {**document, "state": states}


def own_part(document: Mapping[str, Any], optimizer: torch.optim.Optimizer, execution: Execution) -> dict[str, Any]:
    """What this rank holds of a checkpoint's state of an optimizer: what has a parameter's shape is split as it is."""
    if execution.ranks.layout.size == 1:
        return dict(document)
    parameters: dict[Any, torch.Tensor] = {}
    for saved, group in zip(document["param_groups"], optimizer.param_groups, strict=False):
        parameters.update(zip(saved["params"], group["params"], strict=False))
    states = {
        index: {key: _held(value, parameters.get(index), execution) for key, value in state.items()}
        for index, state in document["state"].items()
    }
    return {**document, "state": states}


def local_part(tensor: torch.Tensor) -> torch.Tensor:
    """What of `tensor` lies in this process, sharing its memory; not to be differentiated."""
    to_local = getattr(tensor, "to_local", None)  # of a DTensor, whose module takes seconds to import
    local: torch.Tensor = tensor.detach() if to_local is None else to_local().detach()
    return local


def _held(value: Any, parameter: torch.Tensor | None, execution: Execution) -> Any:
    if parameter is None or not isinstance(value, torch.Tensor) or value.shape != parameter.shape or value.ndim == 0:
        return value
    return execution.part(value, parameter)
