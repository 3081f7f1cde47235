"""Gradient scaling for parameters of which each rank holds a part."""

from __future__ import annotations

import math
from typing import Any, cast, final
from weakref import WeakKeyDictionary

import torch
import torch.distributed as dist
from torch.amp.grad_scaler import GradScaler
from torch.nn.utils import get_total_norm

from mnist_trials_plugins.backends._torch.parts import local
from mnist_trials_plugins.backends._torch.team import Team


@final
class SplitScaling:
    """Unscaling and steps with torch's `scaler`, such that all ranks take or skip the same updates.

    Where every rank has whole, averaged gradients, the scaler sees the same everywhere and needs none of this.
    """

    def __init__(self, scaler: GradScaler, team: Team) -> None:
        self._scaler = scaler
        self._team = team
        self._views: WeakKeyDictionary[torch.optim.Optimizer, _LocalView] = WeakKeyDictionary()
        self._unscaled: set[_LocalView] = set()  # since their last step

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Bring the gradients to their true size. A collective."""
        view = self._views.setdefault(optimizer, _LocalView(optimizer))
        self._spread_overflow(view.gradients())
        self._unscaled.add(view)
        self._scaler.unscale_(_as_optimizer(view))

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Update the parameters, unless a gradient overflowed on any rank. A collective."""
        if self._views.get(optimizer) not in self._unscaled:
            self.unscale(optimizer)
        view = self._views[optimizer]
        self._unscaled.discard(view)
        self._scaler.step(_as_optimizer(view))
        self._scaler.update()

    @torch.no_grad()
    def _spread_overflow(self, gradients: list[torch.Tensor]) -> None:
        """If a gradient of any rank is not finite, have one on every rank: the scaler looks at its own only."""
        largest = get_total_norm(gradients, math.inf)
        overflowed = (~largest.isfinite()).to(self._team.device, torch.float32)
        dist.all_reduce(overflowed, dist.ReduceOp.MAX, self._team.world)
        for gradient in gradients:
            gradient.masked_fill_(overflowed > 0, math.inf)


@final
class _LocalView:
    """An optimizer as a GradScaler is to see it: with the plain parts that lie here for parameters.

    The scaler's operations take either split tensors or plain ones in one call, and a model on a mesh has both. The
    parts share their memory with the gradients, so unscaling them unscales the gradients.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._groups = optimizer.param_groups
        self.step = optimizer.step

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """What the scaler looks through for gradients."""
        return [{"params": [_part(p) for group in self._groups for p in group["params"] if p.grad is not None]}]

    def gradients(self) -> list[torch.Tensor]:
        """Those that lie here."""
        return [part.grad for part in self.param_groups[0]["params"] if part.numel() > 0]  # small ones lie elsewhere


@torch.no_grad()
def _part(parameter: torch.nn.Parameter) -> torch.Tensor:
    assert parameter.grad is not None
    part = local(parameter).detach()
    part.grad = local(parameter.grad)
    return part


def _as_optimizer(view: _LocalView) -> torch.optim.Optimizer:
    return cast(torch.optim.Optimizer, view)
