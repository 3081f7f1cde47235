"""Tensors of which several ranks hold parts: where every part belongs."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    import torch


@final
@dataclass(frozen=True, slots=True)
class Piece:
    """A block of a tensor that one rank gives."""

    rank: int
    offsets: tuple[int, ...]  # of its first element in the whole, one for each dimension
    sizes: tuple[int, ...]

    @property
    def place(self) -> tuple[slice, ...]:
        """The index of the block in the whole."""
        return tuple(slice(start, start + size) for start, size in zip(self.offsets, self.sizes, strict=True))


@final
@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """A tensor whose parts lie on several ranks.

    `pieces` are those that make up the whole: without gap or overlap, none of them empty, at most one of each rank. A
    rank that holds a copy of what another one gives has no piece.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    pieces: tuple[Piece, ...]
    own: torch.Tensor | None  # the piece of this rank, sharing its memory; None where it has none to give

    @property
    def nbytes(self) -> int:
        """The bytes of the whole."""
        return prod(self.shape) * self.dtype.itemsize
