"""Batches of any nesting: how many samples they have, and the same with more or fewer of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch


def size_of(batch: Any) -> int:
    """The number of samples in `batch`: the length of its first tensor or array, else its own, else 1."""
    first = _first_array(batch)
    if first is not None:
        return int(first.shape[0])
    return len(batch) if hasattr(batch, "__len__") else 1


def _first_array(batch: Any) -> Any:
    if getattr(batch, "shape", None):
        return batch
    if isinstance(batch, Mapping):
        parts: Any = batch.values()
    elif isinstance(batch, list | tuple):
        parts = batch
    else:
        return None
    return next((found for part in parts if (found := _first_array(part)) is not None), None)


def fill(batch: Any, size: int) -> Any:
    """`batch` with its last sample repeated until there are `size`; as it is where not all of it is rows of samples."""
    rows = size_of(batch)
    if rows >= size or not _has_rows(batch, rows):
        return batch
    return changed(batch, lambda tensor: torch.cat([tensor, tensor[-1:].expand(size - rows, *tensor.shape[1:])]))


def filled_rows(rows: torch.Tensor, size: int) -> torch.Tensor:
    """Numbers of rows with the last one repeated until there are `size`."""
    return torch.cat([rows, rows[-1:].expand(max(0, size - len(rows)))])


def cut(batch: Any, size: int) -> Any:
    """The first `size` samples of a batch that has one row for each."""
    return changed(batch, lambda tensor: tensor[:size])


def changed(batch: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """`batch`, of lists, tuples and maps, with `change` made to each tensor."""
    if isinstance(batch, torch.Tensor):
        return change(batch)
    if isinstance(batch, Mapping):
        return {key: changed(value, change) for key, value in batch.items()}
    if isinstance(batch, list | tuple):
        parts = [changed(value, change) for value in batch]
        return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)
    return batch


def _has_rows(batch: Any, rows: int) -> bool:
    if isinstance(batch, torch.Tensor):
        return batch.ndim > 0 and len(batch) == rows
    if isinstance(batch, Mapping):
        return all(_has_rows(value, rows) for value in batch.values())
    return isinstance(batch, list | tuple) and all(_has_rows(value, rows) for value in batch)
