"""The norm of gradients of which each rank holds a part."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch.nn.utils import get_total_norm

from mnist_trials_plugins.backends._torch.parts import local, split_over
from mnist_trials_plugins.backends._torch.team import Team

_SMALL = 1e-6  # as torch.nn.utils.clip_grad_norm_ has it


@torch.no_grad()
def clip(parameters: Iterable[torch.nn.Parameter], max_norm: float, team: Team) -> None:
    """See `Execution.clip_gradients`. `parameters` may mix plain ones and such that are split in several ways."""
    copies: dict[int, list[torch.Tensor]] = defaultdict(list)  # by the number of ranks that hold the same
    for parameter in parameters:
        if parameter.grad is not None:
            copies[_copies(parameter, team)].append(local(parameter.grad))
    if not copies:
        return
    # In float64 the squares of float32 neither overflow nor vanish.
    squares = [get_total_norm(gradients).double() ** 2 / number for number, gradients in copies.items()]
    square = torch.stack(squares).sum()
    dist.all_reduce(square, group=team.world)
    scale = (max_norm / (square.sqrt() + _SMALL)).clamp(max=1.0)
    for gradients in copies.values():
        for gradient in gradients:
            gradient.mul_(scale)


def _copies(parameter: torch.nn.Parameter, team: Team) -> int:
    """How many ranks hold the same part of `parameter`."""
    split = split_over(parameter)
    mesh = team.layout.mesh
    return (1 if "data" in split else mesh.data) * (1 if "tensor" in split else mesh.tensor)
