"""What a backend is: a kind of device as the runtime sees it.

`Backend` is the controller's side and imports nothing heavy. `Execution` is the worker's side: it is made once
per process and owns devices, precision and random state.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, final

from mnist_trials.config import LossScale, Mesh, PluginChoice
from mnist_trials.plugin.lowering import ArrayKind, Lowered
from mnist_trials.plugin.ranks import Alone, Layout, Ranks
from mnist_trials.plugin.spread import Spread
from mnist_trials.records import Slot

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram

    from mnist_trials.plugin.learner import Learner, Lesson


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionSettings:
    """How a worker's steps are to be carried out."""

    slots: tuple[Slot, ...]  # of this process; one, unless a backend drives several devices from one process
    precision: str  # fp32, bf16-mixed, fp16-mixed, bf16-true
    compile: bool
    deterministic: bool
    seed: int
    loss_scale: LossScale | None = None  # None: what the precision needs; a backend that cannot scale refuses numbers
    layout: Layout = field(default_factory=Layout)  # among the processes of the trial
    mesh: Mesh = field(default_factory=lambda: Mesh(data=1, tensor=1))  # over the slots of this process


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

        It is one slot for each rank of a trial; a command that is run once for all of them, and the one process of a
        backend that drives several devices, has all of the trial's.
        """

    @property
    def one_process(self) -> bool:
        """Whether one process drives all the slots of a trial, instead of one process each."""
        return False

    def stand_in(self) -> PluginChoice | None:
        """The backend on which a trial of this one can be tried out without its device; None: on this very one.

        It needs no device that somebody else may hold.
        """
        return None

    def missing(self, operations: Sequence[str]) -> Sequence[str] | None:
        """Which of `operations`, named as an `Inspection` names them, such a device cannot do itself.

        What is done on the host instead counts as missing. None: this backend does not tell. It is asked in a process
        of its own and may import what it likes, but there may be no device.

        Raises:
            PluginError: it cannot be told here; the text says what is wanted for it.
        """
        return None

    def lower(
        self,
        name: str,
        program: ExportedProgram,
        inputs: Mapping[str, ArrayKind],
        outputs: Mapping[str, ArrayKind],
    ) -> Lowered | None:
        """A torch program with these inputs and outputs as StableHLO; None: this backend lowers none.

        It is asked in a process of its own and may import what it likes, but there may be no device. A backend whose
        trials are no torch modules lowers by its `Learner`.

        Raises:
            PluginError: it cannot lower this one; the text says why.
        """
        return None

    @property
    def own_models(self) -> bool:
        """Whether its trials are of a framework of its own, so that no other backend can take over their models."""
        return False

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
    def mesh(self) -> Mesh:
        """How this process's own slots are arranged, where it drives several; its batches are split over them."""
        return Mesh(data=1, tensor=1)

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

    @property
    def takes_rows(self) -> bool:
        """Whether `to_device` takes a batch of data in memory as `Rows` too, to gather them where it computes."""
        return False

    @abstractmethod
    def autocast(self) -> AbstractContextManager[Any] | None:
        """The context for forward passes, re-enterable one after another; None where none is needed."""

    @abstractmethod
    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradients of scalar `loss` to the parameters' `.grad`, scaled if this precision scales."""

    @property
    def loss_scale(self) -> torch.Tensor | None:
        """What `backward` multiplies a loss with, as it is now, one element on the device; None where it does not."""
        return None

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

    def spread(self, tensor: torch.Tensor) -> torch.Tensor | Spread:
        """Which ranks hold what of `tensor`, a parameter, a gradient, or a tensor of an optimizer's state.

        It is `tensor` itself where this rank holds all of it and shares it with nobody, and always in a single process.
        Else the ranks named are those of this rank's replica, where there are several. It waits for nobody, unless
        ranks hold summands of `tensor`: these are summed up first, and all of its ranks call this for it then.
        """
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

    def learner(self, lesson: Lesson) -> Learner | None:
        """Who trains and evaluates in the runtime's place, on a framework with a way of its own; None: torch's way.

        Where there is one, nothing of this class that takes a model, an optimizer or a loss is called.

        Raises:
            TrialError: the trial's model or optimizer is none of this framework's.
        """
        return None

    def flusher(self) -> Callable[[], None] | None:
        """What has a lazy device carry out what it was asked so far, without waiting; called after every batch.

        None where a device does what it is asked at once.
        """
        return None

    def folded(self, values: Sequence[Any]) -> Any:
        """Values of one metric (tensors of one element, numbers), as one vector where they lie; waits for nothing."""
        import torch

        device = next((value.device for value in values if isinstance(value, torch.Tensor)), None)
        if device is None:
            return torch.tensor(values, dtype=torch.float64)
        tensors = [v if isinstance(v, torch.Tensor) else torch.tensor(v, device=device) for v in values]
        return torch.stack(tensors).double()

    def fetched(self, vectors: Sequence[Any]) -> torch.Tensor:
        """Vectors that `folded`, or a learner, has made, joined: float64 on the CPU. Waits for the device."""
        import torch

        return torch.cat([vector.cpu() for vector in vectors]) if vectors else torch.empty(0, dtype=torch.float64)

    def readable(self, document: Any) -> Any:
        """`document`, a nest of maps and lists, with its tensors on the CPU where the device gives them best together.

        As it is where each can as well be read by itself.
        """
        return document

    @property
    def static_shapes(self) -> bool:
        """Whether a batch of another size than the others costs a program of its own, so that it is filled up."""
        return False

    def synchronize(self) -> None:
        """Wait until the device has done all it was given."""

    @property
    def compilations(self) -> int:
        """Programs compiled for the device since this object was made; 0 where nothing is compiled or counted."""
        return 0

    @property
    def compile_seconds(self) -> float:
        """How long that took in all."""
        return 0.0

    def close(self) -> None:
        """Leave the other ranks; nothing is asked of this object any more."""


_ALONE = Alone()
