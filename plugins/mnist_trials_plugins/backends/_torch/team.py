"""The process groups of a trial: all ranks, those that differ in their data, those that hold parts of one tensor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

import torch
import torch.distributed as dist

from mnist_trials.errors import PluginError
from mnist_trials.plugin import Layout
from mnist_trials_plugins.backends._torch.line import TorchLine
from mnist_trials_plugins.backends._torch.meeting import PATIENCE, meet
from mnist_trials_plugins.backends._torch.quiet import without_greetings
from mnist_trials_plugins.backends._torch.ranks import TorchRanks

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

_BACKENDS: Final = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}


@final
class Team:
    """All ranks of a trial, connected.

    A script that has made torch's default process group before is taken at its word: that one is used and left alone.

    Raises:
        PluginError: that group is not of `layout`'s size or rank, or there is no rendezvous.
        RanksMissing: some ranks did not come in time.
    """

    def __init__(self, layout: Layout, device: torch.device) -> None:
        self.layout = layout
        self.device = device
        self._own = not dist.is_initialized()
        if self._own:
            meet(layout, _BACKENDS[device.type])
        else:
            _require_fit(layout)
        assert dist.group.WORLD is not None
        self.world = dist.group.WORLD
        with without_greetings():
            together = self.world if self._own else dist.new_group(backend="gloo")
            aside = dist.new_group(backend="gloo", timeout=PATIENCE)
            self.mesh = _mesh(layout, device) if _needs_mesh(layout) else None
        self._line = TorchLine(aside)
        self.ranks = TorchRanks(layout, together, self._line)
        self.data = self.world if self.mesh is None else self.mesh.get_group("data")
        self.tensor = None if self.mesh is None else self.mesh.get_group("tensor")

    def leave(self) -> None:
        """Close what was opened here."""
        self._line.close()
        if self._own and dist.is_initialized():
            dist.destroy_process_group()


def _needs_mesh(layout: Layout) -> bool:
    return layout.mesh.tensor > 1 or (layout.shard and layout.mesh.data > 1)


def _mesh(layout: Layout, device: torch.device) -> DeviceMesh:
    """Rank by rank, row by row; made only where it is needed, as its import costs seconds."""
    from torch.distributed.device_mesh import init_device_mesh

    shape = (layout.mesh.data, layout.mesh.tensor)
    return init_device_mesh(device.type, shape, mesh_dim_names=("data", "tensor"))


def _require_fit(layout: Layout) -> None:
    size, rank = dist.get_world_size(), dist.get_rank()
    if (size, rank) != (layout.size, layout.rank):
        raise PluginError(
            f"This script has called torch.distributed.init_process_group itself, and is rank {rank} of {size} there; "
            f"in its trial it is rank {layout.rank} of {layout.size}. Leave the group to the trial, or take the same "
            "rank and size (RANK and WORLD_SIZE)."
        )
