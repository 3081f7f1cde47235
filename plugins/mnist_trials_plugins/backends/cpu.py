"""The backend `cpu`: the cores of this machine, split evenly into slots.

backend: cpu
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import final

from typing_extensions import override

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
from mnist_trials_plugins.backends._shared import core_shares, thread_variables


@final
class CpuBackend(Backend):
    """Slots are equal shares of the cores; a core that is left over goes to one of the first."""

    def __init__(self, options: Options) -> None:
        refuse_unknown("the backend 'cpu'", options, ())

    @override
    def slots(self, count: int | None) -> tuple[Slot, ...]:
        return tuple(_slot(index, threads) for index, threads in enumerate(core_shares(count)))

    @override
    def environment(self, slots: Sequence[Slot]) -> Mapping[str, str]:
        return thread_variables(sum(slot.threads for slot in slots))

    @override
    def missing(self, operations: Sequence[str]) -> Sequence[str]:
        return ()  # they were carried out here

    @override
    def open(self, settings: ExecutionSettings) -> Execution:
        import torch

        from mnist_trials_plugins.backends._torch.execution import TorchExecution

        return TorchExecution(torch.device("cpu"), settings)


def _slot(index: int, threads: int) -> Slot:
    description = f"CPU, {threads} core{'s' * (threads != 1)}"
    return Slot(
        id=f"cpu:{index}", backend="cpu", index=index, description=description, threads=threads, shares_cores=True
    )


@hookimpl
def mnist_trials_backends() -> Iterable[PluginRecord[Backend]]:
    """The plugin's record."""
    return [PluginRecord("cpu", "The CPU cores of this machine", CpuBackend)]
