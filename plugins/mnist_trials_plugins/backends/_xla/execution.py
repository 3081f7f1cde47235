"""Steps on the XLA devices of this process: traced batch by batch, carried out as one program each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, final
from weakref import WeakSet

import torch
from typing_extensions import override

from mnist_trials.config import Mesh
from mnist_trials.plugin import Execution, ExecutionSettings, Rules
from mnist_trials_plugins.backends._torch.moving import mapped
from mnist_trials_plugins.backends._torch.random_state import (
    random_state,
    restore_random_state,
    seed_all,
    set_determinism,
)
from mnist_trials_plugins.backends._torch.rules import resolve
from mnist_trials_plugins.backends._xla.counting import Compilations
from mnist_trials_plugins.backends._xla.devices import take_device
from mnist_trials_plugins.backends._xla.mesh import DeviceMesh
from mnist_trials_plugins.backends._xla.reading import read_all

_SEEDS: Final = 1 << 63  # torch_xla keeps its seed in 64 bits


@final
class XlaExecution(Execution):
    """Training on one device, or on several as a mesh.

    Raises:
        PluginError: the devices are not to be had.
    """

    def __init__(self, settings: ExecutionSettings) -> None:
        self._device = take_device(len(settings.slots))
        import torch_xla
        import torch_xla.core.xla_model as xm

        self._sync = torch_xla.sync
        self._xm = xm
        self._settings = settings
        self._dtype = torch.bfloat16 if settings.precision == "bf16-true" else torch.float32
        mixed = settings.precision == "bf16-mixed"
        self._autocast = torch.autocast("xla", dtype=torch.bfloat16) if mixed else None
        self._devices = _mesh_of(settings)
        self._placed: WeakSet[torch.optim.Optimizer] = WeakSet()  # those whose states are laid out
        self._compilations = Compilations()
        torch.set_num_threads(sum(slot.threads for slot in settings.slots))
        set_determinism(settings.deterministic)
        seed_all(settings.seed)
        xm.set_rng_state(settings.seed % _SEEDS)

    @property
    @override
    def device(self) -> torch.device:
        return self._device

    @property
    @override
    def mesh(self) -> Mesh:
        return self._settings.mesh

    @property
    @override
    def static_shapes(self) -> bool:
        return True

    @override
    def prepare(self, model: torch.nn.Module, rules: Rules) -> torch.nn.Module:
        model.to(self._device, self._dtype if self._dtype is torch.bfloat16 else None)
        if self._devices is not None:
            self._devices.lay_out_model(model, rules)
        return model

    @override
    def check_rules(self, model: torch.nn.Module, rules: Rules, ranks: int) -> None:
        resolve(rules, model, ranks)

    @override
    def to_device(self, batch: Any) -> Any:
        return mapped(self._move, batch)

    def _move(self, tensor: torch.Tensor) -> torch.Tensor:
        rounds = tensor.is_floating_point() and self._dtype is torch.bfloat16
        moved = tensor.to(self._device, self._dtype if rounds else tensor.dtype)
        return moved if self._devices is None else self._devices.lay_out_batch(moved)

    @override
    def autocast(self) -> AbstractContextManager[Any] | None:
        return self._autocast

    @override
    def backward(self, loss: torch.Tensor) -> None:
        loss.backward()  # type: ignore[no-untyped-call]

    @override
    def part(self, whole: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        moved = whole.to(like.device)
        return moved if self._devices is None else self._devices.part(moved, like)

    @override
    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        return

    @override
    def step(self, optimizer: torch.optim.Optimizer) -> None:
        if self._devices is None or optimizer in self._placed:
            optimizer.step()
            return
        self._devices.lay_out_states(optimizer)  # those of a checkpoint
        optimizer.step()
        self._devices.lay_out_states(optimizer)  # those that the first step has made
        self._placed.add(optimizer)

    @override
    def flusher(self) -> Callable[[], None]:
        return self._sync

    @override
    def folded(self, values: Sequence[Any]) -> Any:
        return tuple(values)  # one vector of them would be another program for every number of them

    @override
    def fetched(self, vectors: Sequence[Any]) -> torch.Tensor:
        values = read_all([value for vector in vectors for value in vector])
        return torch.tensor([float(value) for value in values], dtype=torch.float64)

    @override
    def readable(self, document: Any) -> Any:
        return read_all(document)

    @override
    def state_dict(self) -> dict[str, Any]:
        device = {"xla": self._xm.get_rng_state()}
        return {**random_state(torch.device("cpu")), "device": device, "scaler": None}

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._sync()  # what was loaded is no part of the program of the next step; and a sync moves the seed on
        restore_random_state(state, torch.device("cpu"))
        if "xla" in state["device"]:
            self._xm.set_rng_state(state["device"]["xla"])
        self._placed.clear()

    @override
    def synchronize(self) -> None:
        self._sync()
        self._xm.wait_device_ops()

    @property
    @override
    def compilations(self) -> int:
        return self._compilations.count

    @property
    @override
    def compile_seconds(self) -> float:
        return self._compilations.seconds


def _mesh_of(settings: ExecutionSettings) -> DeviceMesh | None:
    if len(settings.slots) == 1:
        return None
    return DeviceMesh(settings.mesh, shard=settings.layout.shard)
