"""Tensors that are split over a mesh (torch's DTensor) beside plain ones, as the rest of this package sees both.

A DTensor is known by what it has, so that a trial without a mesh need not import its module, which takes seconds.
"""

from __future__ import annotations

from typing import Any

import torch


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


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """`tensor` with the parts of all ranks, plain. A collective if it is split."""
    if mesh_of(tensor) is None:
        return tensor
    full: torch.Tensor = tensor.detach().full_tensor()  # type: ignore[attr-defined]
    return full


def part(whole: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """`whole` on the device of `like`, and split as it is. Talks to nobody."""
    if mesh_of(like) is None:
        return whole.to(like.device)
    from torch.distributed.tensor import distribute_tensor

    placements = like.placements  # type: ignore[attr-defined]
    return distribute_tensor(whole.to(like.device), like.device_mesh, placements, src_data_rank=None)  # type: ignore[attr-defined]
