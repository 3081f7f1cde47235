"""The processes of one trial as each of them sees the others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, final

from typing_extensions import override

from mnist_trials.config import Mesh

if TYPE_CHECKING:
    import torch


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where a process stands in the mesh of its trial, row by row: rank = data rank x `mesh.tensor` + tensor rank."""

    rank: int = 0
    mesh: Mesh = field(default_factory=lambda: Mesh(data=1, tensor=1))
    shard: bool = False  # parameters, gradients and optimizer states are split over the data ranks too
    rendezvous: str = ""  # where the ranks meet, a URL as torch.distributed reads it; empty for a single one
    start_seconds: float = 300.0  # by then all ranks must have met

    @property
    def size(self) -> int:
        """How many processes there are."""
        return self.mesh.data * self.mesh.tensor

    @property
    def data_rank(self) -> int:
        """Which share of every batch this process takes. Those that differ in their tensor rank take the same."""
        return self.rank // self.mesh.tensor

    @property
    def tensor_rank(self) -> int:
        """Which part of every split parameter this process holds."""
        return self.rank % self.mesh.tensor


class Line(ABC):
    """A way for tensors from rank to rank, beside the steps that all take together.

    One thread of a process at a time may send and receive, and it need not be the one that trains. What is sent is
    received in the same order; sending lasts until it is. Whoever waits for a rank that has ended, or that has closed
    its line, gets a RuntimeError or a subclass of it. There is no other limit to the time that it waits.
    """

    @abstractmethod
    def send(self, tensor: torch.Tensor, rank: int) -> None:
        """Give `tensor` (on the CPU, contiguous, not empty) to `rank`."""

    @abstractmethod
    def receive(self, tensor: torch.Tensor, rank: int) -> None:
        """Overwrite `tensor` (on the CPU, contiguous) with one of as many bytes that `rank` sends."""

    @abstractmethod
    def close(self) -> None:
        """End the line here, for all ranks; any thread may. When this returns, nobody in this process waits on it."""


class Ranks(ABC):
    """A line between all processes of a trial, for what is said now and then and is small.

    Every method is a collective: all ranks call it, in the same order. One that waits for a rank which has ended, or
    which does not come, raises RuntimeError or a subclass of it. Not thread-safe.
    """

    @property
    @abstractmethod
    def layout(self) -> Layout:
        """Where this process stands."""

    @property
    def line(self) -> Line | None:
        """The way for tensors between these ranks. None only where there is a single one."""
        return None

    @abstractmethod
    def gather(self, value: Any) -> list[Any]:
        """The values of all ranks, by rank. Made for plain values and tensors on the CPU."""

    @abstractmethod
    def share(self, value: Any) -> Any:
        """The value of rank 0."""

    @abstractmethod
    def sum(self, value: float) -> float:
        """The sum of all data ranks' values, each counted once, in float64."""

    @abstractmethod
    def post(self, number: int) -> Callable[[], int]:
        """Begin to tell every rank the 32-bit `number` of rank 0; what is returned waits for it and is called once."""


@final
class Alone(Ranks):
    """A single process."""

    @property
    @override
    def layout(self) -> Layout:
        return Layout()

    @override
    def gather(self, value: Any) -> list[Any]:
        return [value]

    @override
    def share(self, value: Any) -> Any:
        return value

    @override
    def sum(self, value: float) -> float:
        return value

    @override
    def post(self, number: int) -> Callable[[], int]:
        return lambda: number
