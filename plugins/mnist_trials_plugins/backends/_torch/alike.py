"""Tensors that shall be those of rank 0 on every rank."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain, zip_longest

import torch
import torch.distributed as dist

from mnist_trials.errors import TrialError
from mnist_trials_plugins.backends._torch.team import Team

_CHUNK = 32 << 20  # bytes that are sent at once


@torch.no_grad()
def make_alike(tensors: Iterable[torch.Tensor], team: Team) -> None:
    """Overwrite `tensors`, plain ones of any type, with those of rank 0. A collective."""
    for chunk in _chunks(tensors):
        together = torch.cat([_bytes(tensor) for tensor in chunk])
        dist.broadcast(together, 0, team.world)
        if team.layout.rank == 0:
            continue
        parts = torch.split(together, [tensor.nbytes for tensor in chunk])
        for tensor, part in zip(chunk, parts, strict=True):
            # A copy begins where the type may begin; a slice of bytes need not.
            tensor.copy_(part.clone().view(tensor.dtype).view(tensor.shape))


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().reshape(-1).view(torch.uint8)


def _chunks(tensors: Iterable[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    waiting: dict[torch.device, list[torch.Tensor]] = defaultdict(list)
    for tensor in tensors:
        if tensor.numel() == 0:
            continue
        chunk = waiting[tensor.device]
        chunk.append(tensor)
        if sum(t.nbytes for t in chunk) >= _CHUNK:
            yield waiting.pop(tensor.device)
    yield from waiting.values()


def require_same_model(model: torch.nn.Module, team: Team) -> None:
    """See that every rank has built the same model.

    Raises:
        TrialError: names, shapes or types differ; the text names the first rank that does, and one difference.
    """
    first, *others = team.ranks.gather(_description(model))
    for rank, other in enumerate(others, 1):
        if other != first:
            mine, theirs = next(pair for pair in zip_longest(first, other, fillvalue="nothing") if pair[0] != pair[1])
            raise TrialError(
                f"build_model() made different models: {mine} on rank 0, {theirs} in its place on rank {rank}. Every "
                "rank of a trial must build the same."
            )


def _description(model: torch.nn.Module) -> list[str]:
    tensors = chain(model.named_parameters(), model.named_buffers())
    return [f"{name} {tuple(tensor.shape)} {tensor.dtype}" for name, tensor in tensors]
