"""A launcher for tests, `elsewhere`: local processes, but slots of its own and a place for controllers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from typing_extensions import override

from mnist_trials.errors import PluginError
from mnist_trials.plugin import Launcher, Options, PluginRecord, WorkerHandle, WorkerSpec, get_plugins, hookimpl
from mnist_trials.records import Slot


class Elsewhere(Launcher):
    """`hosts`: how many slots of `backend` each has. `asked`: what was asked for, by all of them."""

    asked: ClassVar[list[tuple[str, int, int]]] = []
    detached: ClassVar[list[subprocess.Popen[bytes]]] = []

    def __init__(self, options: Options) -> None:
        self.options: Mapping[str, Any] = options
        self.local: Launcher = get_plugins().find("launcher", "local").factory({})

    @override
    def create(self, workers: Sequence[WorkerSpec]) -> WorkerHandle:
        return self.local.create(workers)

    @override
    def slots(self, backend: str, wanted: int, per_trial: int) -> tuple[Slot, ...] | None:
        self.asked.append((backend, wanted, per_trial))
        if backend != self.options.get("backend", "cpu"):
            raise PluginError(f"the cluster has no {backend}")
        found = [
            Slot(id=f"{backend}:{index}", backend=backend, index=index, description="far", threads=1, host=host)
            for host, count in self.options["hosts"].items()
            for index in range(count)
        ]
        return tuple(found[:wanted])

    @property
    @override
    def leaves_machine(self) -> bool:
        return len(self.options["hosts"]) > 1

    @override
    def detach(self, command: Sequence[str], environment: Mapping[str, str]) -> str | None:
        if "job" not in self.options:
            return None
        drive = os.path.join(os.path.dirname(__file__), "drive.py")
        home, experiment_id = command[-2:]
        self.detached.append(subprocess.Popen([sys.executable, drive, home, experiment_id], stdout=subprocess.DEVNULL))
        return str(self.options["job"])

    @override
    def close(self) -> None:
        self.local.close()


@hookimpl
def mnist_trials_launchers() -> Iterable[PluginRecord[Launcher]]:
    return [PluginRecord("elsewhere", "for tests", Elsewhere)]


def install() -> None:
    plugins = get_plugins()
    if "elsewhere" not in plugins.launchers():
        plugins.register(sys.modules[__name__], "elsewhere")
