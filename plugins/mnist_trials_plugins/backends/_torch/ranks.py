"""The line between the processes of a trial, over gloo."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import torch
import torch.distributed as dist
from typing_extensions import override

from mnist_trials.plugin import Layout, Line, Ranks


@final
class TorchRanks(Ranks):
    """A line over `group`, which holds all ranks and carries tensors on the CPU, and beside it the line `line`."""

    def __init__(self, layout: Layout, group: dist.ProcessGroup, line: Line) -> None:
        self._layout = layout
        self._group = group
        self._line = line

    @property
    @override
    def layout(self) -> Layout:
        return self._layout

    @property
    @override
    def line(self) -> Line:
        return self._line

    @override
    def gather(self, value: Any) -> list[Any]:
        values: list[Any] = [None] * self._layout.size
        dist.all_gather_object(values, value, self._group)
        return values

    @override
    def share(self, value: Any) -> Any:
        values = [value]
        dist.broadcast_object_list(values, 0, self._group)
        return values[0]

    @override
    def sum(self, value: float) -> float:
        mine = value if self._layout.tensor_rank == 0 else 0.0
        total = torch.tensor(mine, dtype=torch.float64, device="cpu")
        dist.all_reduce(total, group=self._group)
        return total.item()

    @override
    def post(self, number: int) -> Callable[[], int]:
        told = torch.tensor(number, dtype=torch.int32, device="cpu")
        work = dist.broadcast(told, 0, self._group, async_op=True)

        def wait() -> int:
            work.wait()
            return int(told.item())

        return wait
