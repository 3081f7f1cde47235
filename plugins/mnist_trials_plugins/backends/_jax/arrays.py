"""Arrays between torch, numpy and jax."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import torch

_BY_BITS: Final = {np.dtype(np.uint16): np.int16, np.dtype(np.uint32): np.int32, np.dtype(ml_dtypes.bfloat16): np.int16}
"""What torch or a checkpoint has no such type for is handed over by its bits."""


@final
@dataclass(frozen=True, slots=True)
class HostBatch:
    """A batch as numpy arrays in the nesting in which the data gave it; what is no array is left as it was."""

    parts: Any


@final
@dataclass(frozen=True, slots=True)
class RowsBatch:
    """Some rows of tables that lie on the device."""

    tables: tuple[jax.Array, ...]
    rows: np.ndarray[Any, np.dtype[np.int64]]


@final
@dataclass(frozen=True, slots=True)
class Series:
    """Values of one metric on the device: the first `count` of each buffer, one buffer after the other."""

    parts: tuple[tuple[Any, int], ...]

    def __add__(self, more: Series) -> Series:
        return Series(self.parts + more.parts)


def fetched(series: Sequence[Series]) -> torch.Tensor:
    """All values, float64. Waits for the device, once."""
    parts = [part for one in series for part in one.parts]
    buffers = jax.device_get([buffer for buffer, _ in parts])
    values = [np.asarray(b[:count], np.float64) for b, (_, count) in zip(buffers, parts, strict=True)]
    return torch.from_numpy(np.concatenate(values)) if values else torch.empty(0, dtype=torch.float64)


def from_tensor(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    """`tensor` as numpy has it, in the memory of `tensor` where it can be, in a type that jax computes in."""
    host = tensor.detach().cpu()
    if host.dtype is torch.bfloat16:
        return host.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return canonical(host.numpy())


def canonical(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """`array` in the type in which jax would hold it: 32 bits for 64, unless jax was told otherwise."""
    return np.asarray(array, jax.dtypes.canonicalize_dtype(array.dtype))


def to_tensor(array: Any) -> torch.Tensor:
    """A copy of `array`, whole, on the CPU; it is not changed by what is done with `array` later."""
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        array = jax.random.key_data(array)
    host = np.array(array, order="C")
    bits = _BY_BITS.get(host.dtype)
    tensor = torch.from_numpy(host if bits is None else host.view(bits))
    return tensor.view(torch.bfloat16) if host.dtype == ml_dtypes.bfloat16 else tensor


def like(tensor: torch.Tensor, wanted: Any) -> Any:
    """What `to_tensor` gave, back in the type of `wanted` (an array or its description)."""
    if jnp.issubdtype(wanted.dtype, jax.dtypes.prng_key):
        words = np.array(tensor).view(np.uint32)
        return jax.random.wrap_key_data(jnp.asarray(words), impl=jax.random.key_impl(wanted))
    host = from_tensor(tensor)
    if _BY_BITS.get(np.dtype(wanted.dtype)) == host.dtype:
        return host.view(wanted.dtype)
    return host.astype(wanted.dtype)


def is_float(array: Any) -> bool:
    """Whether `array` (of jax or numpy) holds floating-point numbers."""
    return bool(jnp.issubdtype(array.dtype, np.floating))


def floats_as(tree: Any, dtype: Any) -> Any:
    """`tree` with its floating-point arrays in `dtype`."""
    return jax.tree.map(lambda leaf: leaf.astype(dtype) if is_array(leaf) and is_float(leaf) else leaf, tree)


def is_array(value: object) -> bool:
    """Whether `value` is an array of jax (traced ones included) or of numpy."""
    return isinstance(value, jax.Array | np.ndarray)
