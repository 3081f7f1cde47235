"""Tensors that are split over a mesh (torch's DTensor) beside plain ones, as the rest of this package sees both.

A DTensor is known by what it has, so that a trial without a mesh need not import its module, which takes seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import torch

from mnist_trials.plugin import Piece, Spread


def split_over(tensor: torch.Tensor) -> frozenset[str]:
    """The names of the mesh dimensions over which `tensor` is split; empty for a plain or a replicated one."""
    mesh = mesh_of(tensor)
    if mesh is None:
        return frozenset()
    placements = tensor.placements  # type: ignore[attr-defined]
    names = zip(mesh.mesh_dim_names or (), placements, strict=True)
    return frozenset(name for name, placement in names if not placement.is_replicate())


def mesh_of(tensor: torch.Tensor) -> Any:
    """The DeviceMesh of a DTensor; None for any other tensor."""
    return getattr(tensor, "device_mesh", None)


def local(tensor: torch.Tensor) -> torch.Tensor:
    """What of `tensor` lies in this process, sharing its memory. To be called without recording gradients."""
    if mesh_of(tensor) is None:
        return tensor
    part: torch.Tensor = tensor.to_local()  # type: ignore[attr-defined]
    return part


def spread_of(tensor: torch.Tensor) -> torch.Tensor | Spread:
    """Which ranks hold what of `tensor`; see `Execution.spread`."""
    mesh = mesh_of(tensor)
    if mesh is None:
        return tensor
    tensor = tensor.detach()
    placements = tensor.placements  # type: ignore[attr-defined]
    if any(placement.is_partial() for placement in placements):
        from torch.distributed.tensor import Replicate

        placements = [Replicate() if placement.is_partial() else placement for placement in placements]
        tensor = tensor.redistribute(placements=placements)  # type: ignore[attr-defined]
    splits = _splits(placements)
    pieces = []
    for where in product(*map(range, mesh.mesh.shape)):
        # Of ranks that hold the same, the first one gives it.
        if not any(index for index, placement in zip(where, placements, strict=True) if placement.is_replicate()):
            offsets, sizes = _block(tensor.shape, mesh.mesh.shape, where, splits)
            if all(sizes):
                pieces.append(Piece(int(mesh.mesh[where]), offsets, sizes))
    mine = any(piece.rank == mesh.get_rank() for piece in pieces)
    return Spread(tuple(tensor.shape), tensor.dtype, tuple(pieces), local(tensor) if mine else None)


def _splits(placements: Sequence[Any]) -> list[tuple[int, int]]:
    """The dimensions of the mesh over which a tensor is split, each with that of the tensor, in the order of the cuts.

    Where one of the tensor is split over two of the mesh, it is cut over the outer one first, unless that is marked:
    FSDP, which splits over the outer one, finds a tensor that is split over the inner one already.
    """
    splits = [(over, placement) for over, placement in enumerate(placements) if hasattr(placement, "dim")]
    splits.sort(key=lambda split: hasattr(split[1], "split_factor"))
    return [(over, placement.dim) for over, placement in splits]


def _block(
    shape: Sequence[int], mesh: Sequence[int], where: Sequence[int], splits: Sequence[tuple[int, int]]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Offsets and sizes of what the rank at `where` in the mesh holds, cut as `torch.chunk` cuts."""
    offsets, sizes = [0] * len(shape), list(shape)
    for over, dim in splits:
        step = -(-sizes[dim] // mesh[over])
        start = min(where[over] * step, sizes[dim])
        offsets[dim] += start
        sizes[dim] = min(step, sizes[dim] - start)
    return tuple(offsets), tuple(sizes)


def part(whole: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """`whole` on the device of `like`, and split as it is. Talks to nobody."""
    if mesh_of(like) is None:
        return whole.to(like.device)
    from torch.distributed.tensor import distribute_tensor

    placements = like.placements  # type: ignore[attr-defined]
    return distribute_tensor(whole.to(like.device), like.device_mesh, placements, src_data_rank=None)  # type: ignore[attr-defined]
