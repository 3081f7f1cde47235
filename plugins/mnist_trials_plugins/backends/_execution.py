"""Steps on a torch device: placement, precision, determinism, random state. To be imported in workers only."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, final

import numpy as np
import torch
from typing_extensions import override

from mnist_trials.errors import PluginError
from mnist_trials.plugin import Execution, ExecutionSettings
from mnist_trials_plugins.backends._shared import PRECISIONS

_NUMPY_SEEDS = 1 << 32
_AUTOCAST = {"bf16-mixed": torch.bfloat16, "fp16-mixed": torch.float16}


@final
class TorchExecution(Execution):
    """Eager torch, or `torch.compile`, on one device.

    Raises:
        PluginError: the precision is unknown, or the device cannot compute in it.
    """

    def __init__(self, device: torch.device, settings: ExecutionSettings) -> None:
        self._device = device
        self._compile = settings.compile
        self._parameters = torch.bfloat16 if settings.precision == "bf16-true" else torch.float32
        _require_precision(device, settings.precision)
        kind = device.type
        dtype = _AUTOCAST.get(settings.precision)
        self._autocast = None if dtype is None else torch.autocast(kind, dtype=dtype)
        self._scaler = torch.amp.grad_scaler.GradScaler(kind) if dtype is torch.float16 else None
        self._as_it_is = kind == "cpu" and self._parameters is torch.float32
        torch.set_num_threads(settings.slot.threads)
        _set_determinism(settings.deterministic)
        _seed(settings.seed)

    @property
    @override
    def device(self) -> torch.device:
        return self._device

    @override
    def prepare(self, model: torch.nn.Module) -> torch.nn.Module:
        model.to(self._device)
        if self._parameters is not torch.float32:
            model.to(self._parameters)
        if self._compile:
            model.compile()  # type: ignore[no-untyped-call] # in place: the names of parameters stay as they are
        return model

    @override
    def to_device(self, batch: Any) -> Any:
        return batch if self._as_it_is else _mapped(self._move, batch)

    def _move(self, tensor: torch.Tensor) -> torch.Tensor:
        dtype = self._parameters if tensor.is_floating_point() and self._parameters is torch.bfloat16 else tensor.dtype
        return tensor.to(self._device, dtype, non_blocking=True)

    @override
    def autocast(self) -> AbstractContextManager[Any] | None:
        return self._autocast

    @override
    def backward(self, loss: torch.Tensor) -> None:
        if self._scaler is None:
            loss.backward()  # type: ignore[no-untyped-call]
        else:
            self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    @override
    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        if self._scaler is not None:
            self._scaler.unscale_(optimizer)

    @override
    def step(self, optimizer: torch.optim.Optimizer) -> None:
        if self._scaler is None:
            optimizer.step()
        else:
            self._scaler.step(optimizer)
            self._scaler.update()

    @override
    def state_dict(self) -> dict[str, Any]:
        return {
            "python": random.getstate(),
            "numpy": np.random.get_state(),
            "torch": torch.get_rng_state(),
            "device": self._device_state(),
            "scaler": None if self._scaler is None else self._scaler.state_dict(),
        }

    def _device_state(self) -> dict[str, Any]:
        kind = self._device.type
        return {kind: torch.cuda.get_rng_state(self._device)} if kind == "cuda" else {}

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        random.setstate(state["python"])
        np.random.set_state(state["numpy"])
        torch.set_rng_state(state["torch"])
        if self._device.type == "cuda" and "cuda" in state["device"]:
            torch.cuda.set_rng_state(state["device"]["cuda"], self._device)
        if self._scaler is not None and state["scaler"]:
            self._scaler.load_state_dict(dict(state["scaler"]))

    @override
    def synchronize(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def _mapped(change: Callable[[torch.Tensor], torch.Tensor], batch: Any) -> Any:
    if isinstance(batch, torch.Tensor):
        return change(batch)
    if isinstance(batch, Mapping):
        return {key: _mapped(change, value) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(_mapped(change, value) for value in batch))
    if isinstance(batch, list | tuple):
        return type(batch)(_mapped(change, value) for value in batch)
    if callable(to := getattr(batch, "to", None)):  # a batch class of the user's own that knows how to move
        return to(change(torch.empty(0)).device)
    return batch


def _require_precision(device: torch.device, precision: str) -> None:
    if precision not in PRECISIONS:
        raise PluginError(f"No precision is named '{precision}'. Known: {', '.join(PRECISIONS)}.")
    if precision == "bf16-mixed" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise PluginError(
            f"{torch.cuda.get_device_name(device)} cannot compute in bfloat16. Use precision fp32 or fp16-mixed."
        )
    if precision == "fp16-mixed" and device.type == "cpu" and not _cpu_has_half():
        raise PluginError(
            f"torch {torch.__version__} cannot train in float16 on this CPU. Use precision fp32, bf16-mixed or "
            "bf16-true."
        )


def _cpu_has_half() -> bool:
    """Whether the operations of a small network exist in float16 on the CPU."""
    try:
        image = torch.ones(1, 1, 3, 3, dtype=torch.float16, requires_grad=True)
        weight = torch.ones(1, 1, 3, 3, dtype=torch.float16)
        torch.nn.functional.conv2d(image, weight).flatten(1).matmul(weight[0, 0, :1]).sum().backward()  # type: ignore[no-untyped-call]
    except RuntimeError:
        return False
    return True


def _set_determinism(deterministic: bool) -> None:
    if deterministic == torch.are_deterministic_algorithms_enabled():
        return  # finer settings of a script's own stay as they are
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.deterministic = deterministic
    if deterministic:
        torch.backends.cudnn.benchmark = False


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % _NUMPY_SEEDS)
    torch.manual_seed(seed)
