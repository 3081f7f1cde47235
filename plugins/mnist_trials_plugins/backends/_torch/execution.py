"""Steps on a torch device, alone or as one of several ranks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, final

import torch
from typing_extensions import override

from mnist_trials.plugin import Alone, Execution, ExecutionSettings, Ranks, Rules, Spread
from mnist_trials_plugins.backends._torch import parts
from mnist_trials_plugins.backends._torch.alike import make_alike
from mnist_trials_plugins.backends._torch.averaging import Averager
from mnist_trials_plugins.backends._torch.clipping import clip
from mnist_trials_plugins.backends._torch.loss_scale import make_scaler
from mnist_trials_plugins.backends._torch.moving import mapped
from mnist_trials_plugins.backends._torch.precision import require_precision
from mnist_trials_plugins.backends._torch.random_state import (
    random_state,
    restore_random_state,
    seed_all,
    seed_of,
    set_determinism,
)
from mnist_trials_plugins.backends._torch.rules import resolve
from mnist_trials_plugins.backends._torch.scaling import SplitScaling
from mnist_trials_plugins.backends._torch.spreading import spread, units
from mnist_trials_plugins.backends._torch.team import Team

_AUTOCAST = {"bf16-mixed": torch.bfloat16, "fp16-mixed": torch.float16}


@final
class TorchExecution(Execution):
    """Eager torch, or `torch.compile`, on one device.

    Raises:
        PluginError: the precision is unknown, the device cannot compute in it, or the ranks have no rendezvous.
        RanksMissing: some ranks did not come in time.
    """

    def __init__(self, device: torch.device, settings: ExecutionSettings) -> None:
        self._device = device
        self._settings = settings
        self._parameters = torch.bfloat16 if settings.precision == "bf16-true" else torch.float32
        require_precision(device, settings.precision)
        kind = device.type
        dtype = _AUTOCAST.get(settings.precision)
        self._autocast = None if dtype is None else torch.autocast(kind, dtype=dtype)
        self._scaler = make_scaler(device, settings.precision, settings.loss_scale)
        self._as_it_is = kind == "cpu" and self._parameters is torch.float32
        torch.set_num_threads(settings.slots[0].threads)
        set_determinism(settings.deterministic)
        self._team = Team(settings.layout, device) if settings.layout.size > 1 else None
        self._averager = None if self._team is None else Averager(self._team)
        self._split_scaling = (
            SplitScaling(self._scaler, self._team)
            if self._scaler is not None and self._team is not None and self._team.mesh is not None
            else None
        )
        self._reseeds = settings.layout.data_rank > 0
        seed_all(settings.seed)

    @property
    @override
    def device(self) -> torch.device:
        return self._device

    @property
    @override
    def ranks(self) -> Ranks:
        return Alone() if self._team is None else self._team.ranks

    @property
    @override
    def data_group(self) -> Any:
        return None if self._team is None else self._team.data

    @override
    def prepare(self, model: torch.nn.Module, rules: Rules) -> torch.nn.Module:
        model.to(self._device)
        if self._parameters is not torch.float32:
            model.to(self._parameters)
        if self._team is not None:
            spread(model, rules, self._team)
        if self._reseeds:  # models are built alike; from here on ranks that see other data draw other numbers
            self._reseeds = False
            seed_all(seed_of(self._settings.seed, self._settings.layout.data_rank))
        if self._settings.compile:
            for unit in units(model):
                unit.compile()  # type: ignore[no-untyped-call] # in place: the names of parameters stay as they are
        return model

    @override
    def check_rules(self, model: torch.nn.Module, rules: Rules, ranks: int) -> None:
        resolve(rules, model, ranks)

    @override
    def to_device(self, batch: Any) -> Any:
        return batch if self._as_it_is else mapped(self._move, batch)

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

    @property
    @override
    def loss_scale(self) -> torch.Tensor | None:
        if self._scaler is None:
            return None
        scale: torch.Tensor = self._scaler.scale(torch.ones((), device=self._device))
        return scale

    @override
    def average_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        if self._averager is not None:
            self._averager.average(parameters)

    @override
    def clip_gradients(self, parameters: Iterable[torch.nn.Parameter], max_norm: float) -> None:
        if self._team is None or self._team.mesh is None:
            super().clip_gradients(parameters, max_norm)
        else:
            clip(parameters, max_norm, self._team)

    @override
    def align_buffers(self, model: torch.nn.Module) -> None:
        if self._team is not None:
            make_alike(model.buffers(), self._team)

    @override
    def spread(self, tensor: torch.Tensor) -> torch.Tensor | Spread:
        return parts.spread_of(tensor)

    @override
    def part(self, whole: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        return parts.part(whole, like)

    @override
    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        if self._split_scaling is not None:
            self._split_scaling.unscale(optimizer)
        elif self._scaler is not None:
            self._scaler.unscale_(optimizer)

    @override
    def step(self, optimizer: torch.optim.Optimizer) -> None:
        if self._split_scaling is not None:
            self._split_scaling.step(optimizer)
        elif self._scaler is None:
            optimizer.step()
        else:
            self._scaler.step(optimizer)
            self._scaler.update()

    @override
    def state_dict(self) -> dict[str, Any]:
        return {
            **random_state(self._device),
            "scaler": None if self._scaler is None else self._scaler.state_dict(),
        }

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        restore_random_state(state, self._device)
        if self._scaler is not None and state["scaler"]:
            self._scaler.load_state_dict(dict(state["scaler"]))

    @override
    def synchronize(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    @override
    def close(self) -> None:
        if self._team is not None:
            self._team.leave()
