"""Which tensors are the same memory, and how they are brought back to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import accumulate
from operator import mul
from typing import Any

import torch

from mnist_trials.checkpoint.manifest import View
from mnist_trials.plugin import Spread


def shared(tensors: Mapping[str, torch.Tensor | Spread]) -> dict[str, View]:
    """Which of `tensors` (each `storable`) are views into another one of them, and which views.

    The one that is kept is the largest contiguous one; tensors that overlap only in part are nobody's views. Of those
    that are spread over ranks, the first one is kept, and whatever is split in the same way in the same memory is a
    view of all of it.
    """
    groups: dict[tuple[torch.device, int, torch.dtype], dict[str, torch.Tensor]] = {}
    first: dict[Any, str] = {}
    views: dict[str, View] = {}
    for name, tensor in tensors.items():
        if isinstance(tensor, Spread):
            kept = first.setdefault(_memory(tensor), name)
            if kept != name:
                views[name] = View(kept, 0, tensor.shape, _strides(tensor.shape))
        elif tensor.numel():
            memory = (tensor.device, tensor.untyped_storage().data_ptr(), tensor.dtype)
            groups.setdefault(memory, {})[name] = tensor
    for group in groups.values():
        if len(group) > 1:
            views.update(_views(group))
    return views


def view_of(base: torch.Tensor, view: View) -> torch.Tensor:
    """The view of `base` (contiguous) that `view` describes.

    Raises:
        RuntimeError: it reaches beyond `base`.
    """
    return base.as_strided(view.shape, view.stride, base.storage_offset() + view.offset)


def _memory(spread: Spread) -> object:
    """Equal for two that lie in the same memory: by what this rank holds of them, or because they are one."""
    if spread.own is None:
        return id(spread)
    own = spread.own
    return spread.shape, spread.dtype, spread.pieces, own.device, own.data_ptr(), own.stride()


def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Those of a contiguous tensor."""
    return tuple(accumulate(reversed(shape[1:]), mul, initial=1))[::-1] if shape else ()


def _views(group: Mapping[str, torch.Tensor]) -> Iterable[tuple[str, View]]:
    bases: list[tuple[str, torch.Tensor]] = []
    for name, tensor in sorted(group.items(), key=lambda item: (not item[1].is_contiguous(), -item[1].numel())):
        base = next((base for base in bases if _within(tensor, base[1])), None)
        if base is not None:
            offset = int(tensor.storage_offset() - base[1].storage_offset())
            yield name, View(base[0], offset, tuple(tensor.shape), tensor.stride())
        elif tensor.is_contiguous():
            bases.append((name, tensor))


def _within(tensor: torch.Tensor, base: torch.Tensor) -> bool:
    start = tensor.storage_offset() - base.storage_offset()
    last = start + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return start >= 0 and last < base.numel()
