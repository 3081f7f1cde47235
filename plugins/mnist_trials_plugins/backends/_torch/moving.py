"""Batches of any nesting, changed tensor by tensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch


def mapped(change: Callable[[torch.Tensor], torch.Tensor], batch: Any) -> Any:
    """`batch` with `change` made to each tensor; containers keep their kind, other values stay as they are."""
    if isinstance(batch, torch.Tensor):
        return change(batch)
    if isinstance(batch, Mapping):
        return {key: mapped(change, value) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(mapped(change, value) for value in batch))
    if isinstance(batch, list | tuple):
        return type(batch)(mapped(change, value) for value in batch)
    if callable(to := getattr(batch, "to", None)):  # a batch class of the user's own that knows how to move
        return to(change(torch.empty(0)).device)
    return batch
