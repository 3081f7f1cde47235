"""What a backend is: a kind of device as the runtime sees it.

`Backend` is the controller's side and imports nothing heavy. `Execution` is the worker's side: it is made once
per process and owns devices, precision and random state.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from mnist_trials.records import Slot

if TYPE_CHECKING:
    import torch


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionSettings:
    """How a worker's steps are to be carried out."""

    slot: Slot
    precision: str  # fp32, bf16-mixed, fp16-mixed, bf16-true
    compile: bool
    deterministic: bool
    seed: int


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
    def environment(self, slot: Slot) -> Mapping[str, str]:
        """Variables to set in a worker on `slot` before it imports anything."""

    @abstractmethod
    def open(self, settings: ExecutionSettings) -> Execution:
        """Take the device, in the worker process; sets threads, seeds and determinism.

        Raises:
            PluginError: the device or the precision is not to be had here; the text says why.
        """


class Execution(ABC):
    """Carries out steps on one device. Not thread-safe; lives as long as its worker."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where parameters and batches lie."""

    @abstractmethod
    def prepare(self, model: torch.nn.Module) -> torch.nn.Module:
        """`model` on the device, in the parameters' precision, compiled if that was asked for."""

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
