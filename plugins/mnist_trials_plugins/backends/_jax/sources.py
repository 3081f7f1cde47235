"""Batches as `to_device` gave them, made into what a program takes."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Final

import jax
import numpy as np

from mnist_trials.errors import TrialError
from mnist_trials_plugins.backends._jax.arrays import HostBatch, RowsBatch
from mnist_trials_plugins.backends._jax.placement import Placement
from mnist_trials_plugins.backends._jax.programs import Source, samples_of

_ROWS_AT_ONCE: Final = 64
_BYTES_AT_ONCE: Final = 16 << 20


def form_of(batch: HostBatch | RowsBatch) -> Hashable:
    """What two batches must have in common to go through one program."""
    if isinstance(batch, RowsBatch):
        return id(batch.tables), len(batch.rows)
    leaves, structure = jax.tree.flatten(batch.parts)
    if strange := [leaf for leaf in leaves if not isinstance(leaf, np.ndarray)]:
        raise TrialError(
            f"A batch holds {strange[0]!r} ({type(strange[0]).__name__}). On the backend 'jax' batches are made of "
            "arrays, tensors and numbers only, as they are inputs of a compiled step."
        )
    return structure, tuple((leaf.shape, leaf.dtype.str) for leaf in leaves)


def size_of(batch: HostBatch | RowsBatch) -> int:
    """The samples of a batch."""
    return len(batch.rows) if isinstance(batch, RowsBatch) else samples_of(batch.parts)


def alone(batch: HostBatch | RowsBatch) -> Any:
    """The arrays of `batch` itself."""
    form_of(batch)
    return tuple(table[batch.rows] for table in batch.tables) if isinstance(batch, RowsBatch) else batch.parts


def length_of(batch: HostBatch | RowsBatch, wanted: int) -> int:
    """How many batches like `batch` make one source, where `wanted` are to go in.

    Rows are short, so there is one length for all, and one program. Batches themselves are copied: there are as many as
    fit in some megabytes, or a single one.
    """
    if isinstance(batch, RowsBatch):
        return _ROWS_AT_ONCE
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(batch.parts))
    return 1 if wanted == 1 else max(1, min(_ROWS_AT_ONCE, _BYTES_AT_ONCE // max(1, size)))


def filled_up(batch: HostBatch | RowsBatch, size: int) -> HostBatch | RowsBatch | None:
    """`batch` with its first sample repeated until it has `size`; None where not all of it has samples in front."""
    there = size_of(batch)
    if isinstance(batch, RowsBatch):
        return RowsBatch(batch.tables, _repeated(batch.rows, size - there))
    if any(leaf.ndim == 0 or len(leaf) != there for leaf in jax.tree.leaves(batch.parts)):
        return None
    return HostBatch(jax.tree.map(lambda leaf: _repeated(leaf, size - there), batch.parts))


def _repeated(array: Any, more: int) -> Any:
    return np.concatenate([array, np.repeat(array[:1], more, axis=0)])


def source_of(
    batches: Sequence[HostBatch | RowsBatch], length: int, placement: Placement, count: int | None = None
) -> Source:
    """A source of `length` batches, the first of which are `batches`, all of one form.

    `count`: only so many samples of each are there, and the others fill it up.
    """
    first = batches[0]
    counts = {} if count is None else {"counts": np.full(length, count, np.int32)}
    if isinstance(first, RowsBatch):
        rows = np.zeros((length, len(first.rows)), np.int32)
        chosen = [batch.rows for batch in batches if isinstance(batch, RowsBatch)]
        np.stack(chosen, out=rows[: len(chosen)], casting="same_kind")
        return {"tables": first.tables, "rows": placement.split(rows, 1), **counts}
    parts = [batch.parts for batch in batches if isinstance(batch, HostBatch)]
    stacked = jax.tree.map(lambda *leaves: placement.split(_stacked(leaves, length), 1), *parts)
    return {"batches": stacked, **counts}


def _stacked(arrays: Sequence[Any], length: int) -> Any:
    if length == len(arrays) == 1:
        return arrays[0][None]
    whole = np.zeros((length, *arrays[0].shape), arrays[0].dtype)
    np.stack(arrays, out=whole[: len(arrays)])
    return whole
