"""The backend `xla`: any device that PyTorch/XLA drives, the CPU included.

    backend: {name: xla, device: TPU}
    backend: {name: xla, device: TT, devices: 2, env: {XLA_ALWAYS_ALLREDUCE: 1, CONVERT_SHLO_TO_SHARDY: 1}}

One process drives all slots of a trial (SPMD). docs/xla.md says what each option is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, final

from typing_extensions import override

from mnist_trials.config import PluginChoice
from mnist_trials.errors import PluginError
from mnist_trials.plugin import (
    ArrayKind,
    Backend,
    Execution,
    ExecutionSettings,
    Lowered,
    Options,
    PluginRecord,
    hookimpl,
    refuse_unknown,
    text_option,
)
from mnist_trials.records import Slot
from mnist_trials_plugins.backends._shared import core_shares, cores, require_precision_name, thread_variables

if TYPE_CHECKING:
    from torch.export import ExportedProgram

_WHO: Final = "the backend 'xla'"
_OPTIONS: Final = ("device", "devices", "env", "visible")
_CPU: Final = "CPU"
_VISIBLE: Final = {"TPU": "TPU_VISIBLE_CHIPS", "NEURON": "NEURON_RT_VISIBLE_CORES"}
_ERRORS: Final = "2"  # less is logged than the warning of every compilation that GSPMD will be replaced
_INSTALL: Final = "pip install 'mnist-trials[xla]'"


@final
class XlaBackend(Backend):
    """Slots are the devices of one kind. Those of the CPU are virtual ones, equal shares of the cores.

    Options:
        device: what PJRT_DEVICE is set to: CPU, TPU, or the name of an installed plugin (`torch_xla.plugins`). Default:
            PJRT_DEVICE where it is set, else CPU.
        devices: how many of them this machine has (default 1). The CPU has as many as cores.
        env: variables that a worker has before it imports torch_xla; they go before those of this backend.
        visible: the variable by which a process is told which devices to use, by number; known for TPU and NEURON.
    """

    def __init__(self, options: Options) -> None:
        refuse_unknown(_WHO, options, _OPTIONS)
        named = text_option(_WHO, options, "device") or os.environ.get("PJRT_DEVICE") or _CPU
        self._device = named.upper()
        self._count = _devices(options, self._device)
        self._env = _variables(options)
        self._visible = text_option(_WHO, options, "visible") or _VISIBLE.get(self._device)

    @property
    @override
    def one_process(self) -> bool:
        return True

    @override
    def slots(self, count: int | None) -> tuple[Slot, ...]:
        if self._device == _CPU:
            shares = core_shares(count)
            return tuple(self._slot(index, threads) for index, threads in enumerate(shares))
        wanted = self._count if count is None else count
        if wanted > self._count:
            raise PluginError(
                f"{_WHO} was told of {self._count} device{'s' * (self._count != 1)} of the kind {self._device}, not "
                f"{wanted}; `devices: {wanted}` beside its name says that there are more."
            )
        return tuple(self._slot(index, max(1, cores() // wanted)) for index in range(wanted))

    def _slot(self, index: int, threads: int) -> Slot:
        on_cores = self._device == _CPU
        what = f"XLA device on the CPU, {threads} core{'s' * (threads != 1)}" if on_cores else f"XLA:{self._device}"
        return Slot(
            id=f"xla:{index}" if on_cores else f"{self._device.lower()}:{index}",
            backend="xla",
            index=index,
            description=what,
            threads=threads,
            shares_cores=on_cores,
        )

    @override
    def environment(self, slots: Sequence[Slot]) -> Mapping[str, str]:
        threads = sum(slot.threads for slot in slots)
        own = {"PJRT_DEVICE": self._device, "TF_CPP_MIN_LOG_LEVEL": _ERRORS, **thread_variables(threads)}
        if self._device == _CPU:
            # NPROC is what the CPU client takes for the number of its threads.
            own |= {"CPU_NUM_DEVICES": str(len(slots)), "NPROC": str(threads)}
        elif self._visible is not None:
            own[self._visible] = ",".join(str(slot.index) for slot in slots)
        return {**own, **self._env}

    @override
    def stand_in(self) -> PluginChoice:
        return PluginChoice("cpu")

    @override
    def missing(self, operations: Sequence[str]) -> Sequence[str]:
        if (reason := why_not()) is not None:
            raise PluginError(f"{_WHO} cannot be asked: {reason}")
        os.environ.setdefault("PJRT_DEVICE", _CPU)  # that of no device is asked for
        import torch_xla  # noqa: F401 - makes its operations known

        from mnist_trials_plugins.backends._torch.registered import without_kernel

        return without_kernel(operations, "XLA")

    @override
    def lower(
        self,
        name: str,
        program: ExportedProgram,
        inputs: Mapping[str, ArrayKind],
        outputs: Mapping[str, ArrayKind],
    ) -> Lowered:
        if (reason := why_not()) is not None:
            raise PluginError(f"{_WHO} cannot lower it: {reason}")
        os.environ["PJRT_DEVICE"] = _CPU  # programs are the same for all devices, and this one is always there
        from mnist_trials_plugins.backends._xla.exporting import lower

        return lower(name, program, inputs, outputs)

    @override
    def open(self, settings: ExecutionSettings) -> Execution:
        require_precision_name(settings.precision)
        if settings.precision == "fp16-mixed":
            raise PluginError("XLA devices do not train in float16. Use precision fp32, bf16-mixed or bf16-true.")
        if settings.loss_scale not in (None, "none", 1.0):
            raise PluginError(f"{_WHO} does not scale losses: float16 alone needs that. Leave `loss_scale` out.")
        if (reason := why_not()) is not None:
            raise PluginError(f"{_WHO} cannot be used: {reason}")
        for name, value in self.environment(settings.slots).items():  # no effect where a launcher has set them
            os.environ.setdefault(name, value)
        from mnist_trials_plugins.backends._xla.execution import XlaExecution

        return XlaExecution(settings)


def _devices(options: Mapping[str, Any], device: str) -> int:
    value = options.get("devices", 1)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise PluginError(f"'devices' of {_WHO} must be a whole number of at least 1, not {value!r}.")
    if device == _CPU and "devices" in options:
        raise PluginError(
            f"{_WHO} has as many devices on the CPU as there are cores or slots asked for (--slots, "
            "resources.max_slots), so 'devices' is for other devices; leave it out."
        )
    return value


def _variables(options: Mapping[str, Any]) -> dict[str, str]:
    given = options.get("env") or {}
    if not isinstance(given, Mapping):
        raise PluginError(f"'env' of {_WHO} is a map of variables, such as {{XLA_ALWAYS_ALLREDUCE: 1}}, not {given!r}.")
    for name, value in given.items():
        if not isinstance(name, str) or re.fullmatch(r"[A-Za-z_]\w*", name) is None:
            raise PluginError(f"'env' of {_WHO}: {name!r} is no name of a variable.")
        if not isinstance(value, str | int | float) or "\0" in str(value):
            raise PluginError(f"'env.{name}' of {_WHO} must be text or a number, not {value!r}.")
    return {name: _as_text(value) for name, value in given.items()}


def _as_text(value: object) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


def why_not() -> str | None:
    """Why PyTorch/XLA cannot be used here; None where it can. Imports neither it nor torch."""
    if find_spec("torch_xla") is None:
        return f"torch_xla is not installed: {_INSTALL}"
    try:
        wanted, there = version("torch_xla"), version("torch")
    except PackageNotFoundError as error:
        return f"the package {error.name} is not installed: {_INSTALL}"
    if wanted.split(".")[:2] != there.split(".")[:2]:
        return (
            f"torch_xla {wanted} works with torch {'.'.join(wanted.split('.')[:2])} only, and here is torch {there}; "
            f"install both in an environment of their own ({_INSTALL}) and name its interpreter: "
            "`backend: {name: xla, python: PATH}`"
        )
    return None


@hookimpl
def mnist_trials_backends() -> Iterable[PluginRecord[Backend]]:
    """The plugin's record."""
    return [PluginRecord("xla", "Devices of PyTorch/XLA, also virtual ones on the CPU", XlaBackend, why_not)]
