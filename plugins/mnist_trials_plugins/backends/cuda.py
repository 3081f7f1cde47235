"""The backend `cuda`: every NVIDIA device of this machine is a slot.

    backend: cuda

The variable CUDA_VISIBLE_DEVICES limits which devices there are, as for any program.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from typing_extensions import override

from mnist_trials.config import PluginChoice
from mnist_trials.errors import PluginError
from mnist_trials.plugin import (
    Backend,
    Execution,
    ExecutionSettings,
    Options,
    PluginRecord,
    hookimpl,
    refuse_unknown,
)
from mnist_trials.records import Slot
from mnist_trials_plugins.backends._shared import cores, thread_variables

_VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
_DRIVER: Final = Path("/proc/driver/nvidia/gpus")
_SECONDS: Final = 30.0
_LISTED: Final = re.compile(r"^\s*(GPU|MIG)\s+(.*?)\s*(?:Device\s+\d+)?:\s*(.*?)\s*\(UUID: ([^)]+)\)\s*$")


@final
@dataclass(frozen=True, slots=True)
class Device:
    """One device. `selector` is what CUDA_VISIBLE_DEVICES calls it."""

    selector: str
    name: str


@final
class CudaBackend(Backend):
    """One slot per device. A worker sees its own device only."""

    def __init__(self, options: Options) -> None:
        refuse_unknown("the backend 'cuda'", options, ())
        self._found: list[Device] | None = None

    def _devices(self) -> list[Device]:
        """Asked for once: the driver's tool may take a second."""
        if self._found is None:
            self._found = visible_devices()
        return self._found

    @override
    def slots(self, count: int | None) -> tuple[Slot, ...]:
        devices = self._devices()
        wanted = len(devices) if count is None else count
        if wanted > len(devices):
            raise PluginError(
                f"This machine offers {len(devices)} CUDA devices, not {wanted}"
                + (f": {', '.join(device.name for device in devices)}." if devices else f" ({why_none()}).")
            )
        threads = max(1, cores() // max(1, wanted))
        return tuple(
            Slot(id=f"cuda:{index}", backend="cuda", index=index, description=device.name, threads=threads)
            for index, device in enumerate(devices[:wanted])
        )

    @override
    def environment(self, slots: Sequence[Slot]) -> Mapping[str, str]:
        devices = self._devices()
        selectors = [devices[s.index].selector if s.index < len(devices) else str(s.index) for s in slots]
        return {
            _VISIBLE: ",".join(selectors),
            "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # lets cuBLAS be deterministic where that is asked for
            **thread_variables(sum(slot.threads for slot in slots)),
        }

    @override
    def stand_in(self) -> PluginChoice:
        return PluginChoice("cpu")

    @override
    def missing(self, operations: Sequence[str]) -> Sequence[str]:
        import torch

        from mnist_trials_plugins.backends._torch.registered import without_kernel

        if torch.version.cuda is None:
            raise PluginError(f"torch {torch.__version__} was built without CUDA and does not know what it has there.")
        return without_kernel(operations, "CUDA")

    @override
    def open(self, settings: ExecutionSettings) -> Execution:
        import torch

        from mnist_trials_plugins.backends._torch.execution import TorchExecution

        if not torch.cuda.is_available():
            raise PluginError(
                f"torch {torch.__version__} finds no CUDA device here: it was built "
                f"{'without CUDA' if torch.version.cuda is None else f'for CUDA {torch.version.cuda}'}. "
                "Use `backend: cpu`, or install a torch that fits the driver."
            )
        # A worker process sees its device alone; where a launcher works in its own process all of them are visible.
        device = torch.device(
            "cuda", settings.slots[0].index if torch.cuda.device_count() > settings.slots[0].index else 0
        )
        torch.cuda.set_device(device)
        return TorchExecution(device, settings)


def visible_devices() -> list[Device]:
    """The devices that a CUDA program started here would see, found without torch."""
    devices = _listed_by_tool() or _listed_by_driver()
    wanted = os.environ.get(_VISIBLE)
    return devices if wanted is None or not devices else _selected(devices, wanted)


def _selected(devices: list[Device], wanted: str) -> list[Device]:
    """As CUDA reads the variable: numbers or the beginnings of UUIDs, up to the first that is no device."""
    chosen: list[Device] = []
    for selector in (part.strip() for part in wanted.split(",")):
        if selector.isdigit():
            device = devices[int(selector)] if int(selector) < len(devices) else None
        else:
            device = next((d for d in devices if selector and d.selector.startswith(selector)), None)
        if device is None:
            break
        chosen.append(Device(selector, device.name))
    return chosen


def _listed_by_tool() -> list[Device]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    try:
        done = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=_SECONDS, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return []
    return parse_listing(done.stdout)


def parse_listing(text: str) -> list[Device]:
    """The devices in the output of `nvidia-smi -L`. A device that is split into MIG instances stands for these."""
    devices: list[Device] = []
    whole = False  # whether the last device is a whole GPU
    for line in text.splitlines():
        match = _LISTED.match(line)
        if match is None:
            continue
        kind, profile, name, uuid = match.groups()
        if kind == "GPU":
            devices.append(Device(uuid, name))
            whole = True
            gpu = name
        else:
            if whole:
                devices.pop()
            whole = False
            devices.append(Device(uuid, f"{gpu} MIG {profile}"))
    return devices


def _listed_by_driver() -> list[Device]:
    """From the kernel driver's own files, for containers without the tool; only those that can be opened here."""
    found: list[tuple[int, str]] = []
    for information in sorted(_DRIVER.glob("*/information")):
        try:
            text = information.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        fields = dict(re.findall(r"^([^:\n]+):[ \t]*(.*?)[ \t]*$", text, flags=re.MULTILINE))
        minor = fields.get("Device Minor", "")
        if minor.isdigit() and os.access(f"/dev/nvidia{minor}", os.R_OK | os.W_OK):
            found.append((int(minor), fields.get("Model", "NVIDIA device")))
    return [Device(str(index), name) for index, (_, name) in enumerate(sorted(found))]


def why_none() -> str | None:
    """Why no device can be used here; None where there is one."""
    if visible_devices():
        return None
    if os.environ.get(_VISIBLE) is not None and (_listed_by_tool() or _listed_by_driver()):
        return f"{_VISIBLE}={os.environ[_VISIBLE]!r} hides every CUDA device"
    return "there is no CUDA device here, or no NVIDIA driver"


@hookimpl
def mnist_trials_backends() -> Iterable[PluginRecord[Backend]]:
    """The plugin's record."""
    return [PluginRecord("cuda", "NVIDIA devices, one slot each", CudaBackend, why_none)]
