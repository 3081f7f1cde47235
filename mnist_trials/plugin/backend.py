"""What a backend is: a kind of device as the runtime sees it.

`Backend` is the controller's side and imports nothing heavy. `Execution` is the worker's side: it is made once
per process and owns devices, precision and random state.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, final

from mnist_trials.plugin.ranks import Alone, Layout, Ranks
from mnist_trials.records import Slot

if TYPE_CHECKING:
    import torch


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionSettings:
    """How a worker's steps are to be carried out."""

    slots: tuple[Slot, ...]  # of this process; one, unless a backend drives several devices from one process
    precision: str  # fp32, bf16-mixed, fp16-mixed, bf16-true
    compile: bool
    deterministic: bool
    seed: int
    layout: Layout = field(default_factory=Layout)  # among the processes of the trial


Rules = Mapping[str, tuple[str | None, ...]]
"""How parameters are split over a mesh: a regular expression for whole names of parameters -> for each dimension of
such a parameter the mesh dimension that it is split over ("tensor"), or None. Those that no rule names stay whole."""


class Backend(ABC):
    """A kind of device. Instances are cheap and are made in the controller and in every worker."""

    @abstractmethod
    def slots(self, count: int | None) -> tuple[Slot, ...]:
        """The slots of this machine: `count` of them, or as many as there are for None.

        Must answer without importing torch. An empty tuple means the device is not here.

        Raises:
            PluginError: `count` is more than there can be; the text says what is there.
        """

    @abstractmethod
    def environment(self, slots: Sequence[Slot]) -> Mapping[str, str]:
        """Variables to set in a process on `slots` before it imports anything.

        It is one slot for each rank of a trial; a command that is run once for all ranks has all of them.
        """

    @abstractmethod
    def open(self, settings: ExecutionSettings) -> Execution:
        """Take the device, in the worker process; sets threads, seeds and determinism; meets the other ranks.

        Raises:
            PluginError: the device, the precision or the layout is not to be had here; the text says why.
            RanksMissing: some ranks did not come in time; the text says which.
        """


class Execution(ABC):
    """Carries out steps on one device. Not thread-safe; lives as long as its worker."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where parameters and batches lie."""

    @property
    def ranks(self) -> Ranks:
        """The line to the other processes of the trial."""
        return _ALONE

    @property
    def data_group(self) -> Any:
        """The torch process group of the ranks that differ only in their data; None where there is none."""
        return None

    @abstractmethod
    def prepare(self, model: torch.nn.Module, rules: Rules) -> torch.nn.Module:
        """`model` on the device, in the parameters' precision, compiled if that was asked for.

        It is the same object and has the same names of parameters and the same initial values on every rank, whatever
        part of them each holds: those of rank 0. `rules` split parameters where the layout has a tensor dimension;
        they have no effect elsewhere. A ModuleDict stands for several models, each of which is called by itself.

        Raises:
            TrialError: a rule matches nothing, or names a dimension that does not divide or cannot be split.
        """

    def check_rules(self, model: torch.nn.Module, rules: Rules, ranks: int) -> None:
        """Whether `rules` could split `model`, not prepared yet, over `ranks` ranks; asked of a single process.

        Raises:
            TrialError: `prepare` would raise it on a mesh whose tensor dimension is so long.
        """

    @abstractmethod
    def to_device(self, batch: Any) -> Any:
        """`batch` (any nesting of tuples, lists, dicts and tensors) on the device, floats as bf16 for `bf16-true`.

        Returns `batch` itself where nothing is to be done.
        """

    @abstractmethod
    def autocast(self) -> AbstractContextManager[Any] | None:
        """The context for forward passes, re-enterable one after another; None where none is needed."""

    @abstractmethod
    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradients of scalar `loss` to the parameters' `.grad`, scaled if this precision scales."""

    def average_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Make each gradient the mean over the data ranks; a rank that has none counts as zeros. A collective.

        Called before each update, once for all backward passes since the last one, and before `unscale`. `parameters`
        are the same on every rank, in the same order. The gradients may lie in memory that the next call overwrites.
        """

    def clip_gradients(self, parameters: Iterable[torch.nn.Parameter], max_norm: float) -> None:
        """Scale all gradients down to `max_norm`, the norm of all of them, whole, as one vector. A collective."""
        from torch.nn.utils import clip_grad_norm_

        clip_grad_norm_(parameters, max_norm)

    def align_buffers(self, model: torch.nn.Module) -> None:
        """Give the buffers of `model` (running means and the like) on every rank the values of rank 0. A collective."""

    def whole(self, tensor: torch.Tensor) -> torch.Tensor:
        """The whole tensor of which every rank holds a part, plain, on every rank. A collective."""
        return tensor

    def part(self, whole: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """What of `whole`, which every rank has, this rank holds: laid out as `like`."""
        return whole

    @abstractmethod
    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Bring the gradients of `optimizer`'s parameters to their true size (before they are clipped)."""

    @abstractmethod
    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Update the parameters; skips the update where a scaled gradient overflowed."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Scaler and random state (python, numpy, torch, device): tensors and JSON values only."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to `state`. What another kind of device wrote of itself is left out."""

    def synchronize(self) -> None:
        """Wait until the device has done all it was given."""

    def close(self) -> None:
        """Leave the other ranks; nothing is asked of this object any more."""


_ALONE = Alone()
