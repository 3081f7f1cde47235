"""Values from the device to the host: many at once, and nothing is compiled for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from mnist_trials_plugins.backends._xla.library import carry_out, parts_of, values_of
from mnist_trials_plugins.backends._xla.mesh import is_split


def read(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """`tensors`, all on the device, on the CPU and whole."""
    split = [is_split(tensor) for tensor in tensors]
    if any(split):  # there are parts of what was computed already; all else that is asked for stays asked for
        pending = [tensor for tensor, parts in zip(tensors, split, strict=True) if parts]
        carry_out(pending)
    whole = iter(values_of([tensor for tensor, parts in zip(tensors, split, strict=True) if not parts]))
    return [_joined(tensor) if parts else next(whole) for tensor, parts in zip(tensors, split, strict=True)]


def read_all(document: Any) -> Any:
    """A nest of maps, lists and tuples with each tensor that lies on the device replaced by what `read` gives."""
    found: dict[int, torch.Tensor] = {}
    _collect(document, found)
    values = dict(zip(found, read(list(found.values())), strict=True)) if found else {}
    return _replaced(document, values)


@torch.no_grad()
def _joined(tensor: torch.Tensor) -> torch.Tensor:
    """Put together from its parts. torch_xla's own way compiles a program to join them, anew every time."""
    whole = torch.empty(tensor.shape, dtype=tensor.dtype)
    for part, where in parts_of(tensor.detach()):
        whole[where] = part[tuple(slice(0, size) for size in whole[where].shape)]  # the last ones may be filled up
    return whole


def _collect(value: Any, found: dict[int, torch.Tensor]) -> None:
    if isinstance(value, torch.Tensor):
        if value.device.type == "xla":
            found[id(value)] = value
    elif isinstance(value, Mapping):
        for part in value.values():
            _collect(part, found)
    elif isinstance(value, list | tuple):
        for part in value:
            _collect(part, found)


def _replaced(value: Any, values: Mapping[int, torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        return values.get(id(value), value)
    if isinstance(value, Mapping):
        return {key: _replaced(part, values) for key, part in value.items()}
    if isinstance(value, list | tuple):
        parts = [_replaced(part, values) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value
