"""Ranks that are threads of one process, for what needs no tensors."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any, TypeVar, final

from typing_extensions import override

from mnist_trials.config import Mesh
from mnist_trials.plugin import Layout, Ranks

DEADLINE = 60.0

T = TypeVar("T")


@final
class _Table:
    """Where the ranks lay what they say."""

    def __init__(self, size: int) -> None:
        self.said: list[Any] = [None] * size
        self.barrier = Barrier(size, timeout=DEADLINE)


@final
class ThreadRanks(Ranks):
    """One rank's line to the others."""

    def __init__(self, layout: Layout, table: _Table) -> None:
        self._layout = layout
        self._table = table

    @property
    @override
    def layout(self) -> Layout:
        return self._layout

    @override
    def gather(self, value: Any) -> list[Any]:
        self._table.said[self._layout.rank] = value
        self._table.barrier.wait()
        values = list(self._table.said)
        self._table.barrier.wait()
        return values

    @override
    def share(self, value: Any) -> Any:
        return self.gather(value)[0]

    @override
    def sum(self, value: float) -> float:
        return sum(self.gather(value)[:: self._layout.mesh.tensor])

    @override
    def post(self, number: int) -> Callable[[], int]:
        told: int = self.share(number)
        return lambda: told


def on_ranks(data: int, tensor: int, work: Callable[[Ranks], T]) -> list[T]:
    """What `work` returns on each rank of a mesh of threads."""
    mesh = Mesh(data=data, tensor=tensor)
    table = _Table(data * tensor)

    def one(rank: int) -> T:
        try:
            return work(ThreadRanks(Layout(rank=rank, mesh=mesh), table))
        except BaseException:
            table.barrier.abort()
            raise

    with ThreadPoolExecutor(data * tensor) as pool:
        return [future.result(DEADLINE) for future in [pool.submit(one, rank) for rank in range(data * tensor)]]
