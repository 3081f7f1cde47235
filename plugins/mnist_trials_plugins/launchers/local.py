"""The launcher `local`: one process per rank on this machine.

    launcher: local

Each worker leads a session and process group of its own and is ended with everything it started. If this process dies,
however it dies, the workers notice and end at once.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from functools import partial
from typing import final

from typing_extensions import override

from mnist_trials.events import Event, Notice, Request, WorkersExited, WorkersLaunched
from mnist_trials.plugin import (
    Deliver,
    Launcher,
    Options,
    PluginRecord,
    WorkerHandle,
    WorkerSpec,
    hookimpl,
    refuse_unknown,
)
from mnist_trials_plugins.launchers._meeting import clear_meeting, free_port, meeting_by_file, one_machine_variables
from mnist_trials_plugins.launchers._pump import Pump
from mnist_trials_plugins.launchers._reasons import KILLED_BEFORE, not_started
from mnist_trials_plugins.launchers._run_log import RunLog
from mnist_trials_plugins.launchers._worker import Worker


@final
class LocalHandle(WorkerHandle):
    """The processes of one run.

    What is public may be called from any thread and takes the lock; methods named `_on_...` run on the pump's thread,
    one at a time, and so does `deliver`.
    """

    def __init__(self, specs: Sequence[WorkerSpec], pump: Pump) -> None:
        self._specs = meeting_by_file(specs)
        self._pump = pump
        self._lock = threading.Lock()
        self._workers: list[Worker] = []
        self._running = 0
        self._killed = False
        self._reason: str | None = None
        self._gone = threading.Event()
        self._log = RunLog(self._specs, self._say)

    @override
    def start(self, deliver: Deliver) -> None:
        self._deliver = deliver
        with self._lock:
            self._start_all()
        self._pump.call(self._on_started)

    @override
    def request(self, request: Request) -> None:
        with self._lock:
            for worker in self._workers:
                worker.request(request)

    @override
    def kill(self) -> None:
        with self._lock:
            self._killed = True
            for worker in self._workers:
                worker.kill()

    @override
    def hold_events(self, hold: bool) -> None:
        self._pump.call(partial(self._on_hold, hold))

    @override
    def join(self, timeout: float) -> bool:
        return self._gone.wait(timeout)

    def _start_all(self) -> None:
        try:
            self._log.open()
            clear_meeting(self._specs[0])
            port = free_port()
            for spec in self._specs:
                if self._killed:
                    self._reason = KILLED_BEFORE
                    return
                self._workers.append(Worker(spec, one_machine_variables(spec, port)))
        except (OSError, ValueError, TypeError) as error:
            self._reason = not_started(len(self._workers), error)

    def _on_started(self) -> None:
        self._running = len(self._workers)
        if self._reason is None:
            event = WorkersLaunched(
                trial_id=self._specs[0].trial_id,
                run=self._specs[0].run,
                processes=tuple(worker.identity for worker in self._workers),
            )
            self._deliver(event)
        for worker in self._workers:
            worker.watch(
                self._pump, partial(self._on_output, worker.spec.rank), self._on_event, partial(self._on_ended, worker)
            )
        if self._reason is not None:
            self._on_lost()

    def _on_event(self, event: Event) -> None:
        self._deliver(event)

    def _on_hold(self, hold: bool) -> None:
        for worker in self._workers:
            worker.hold_events(hold)

    def _on_output(self, rank: int, data: bytes) -> None:
        self._log.take(rank, data)

    def _on_ended(self, worker: Worker, exit_code: int) -> None:
        if exit_code != 0:  # the others would wait for it for ever
            self._on_lost()
        worker.sweep(self._on_gone)

    def _on_lost(self) -> None:
        for worker in self._workers:
            worker.kill()
        if not self._workers:
            self._on_all_gone()

    def _on_gone(self) -> None:
        self._running -= 1
        if self._running == 0:
            self._on_all_gone()

    def _on_all_gone(self) -> None:
        self._log.close()
        clear_meeting(self._specs[0])
        codes = [worker.exit_code for worker in self._workers]
        codes += [None] * (len(self._specs) - len(codes))
        first = self._specs[0]
        self._deliver(
            WorkersExited(trial_id=first.trial_id, run=first.run, exit_codes=tuple(codes), reason=self._reason)
        )
        self._gone.set()

    def _say(self, message: str) -> None:
        first = self._specs[0]
        self._deliver(Notice(trial_id=first.trial_id, run=first.run, message=message))


@final
class LocalLauncher(Launcher):
    """Starts processes on this machine; one thread carries what all of them say."""

    def __init__(self) -> None:
        self._pump = Pump()

    @override
    def create(self, workers: Sequence[WorkerSpec]) -> LocalHandle:
        return LocalHandle(workers, self._pump)

    @override
    def close(self) -> None:
        self._pump.close()


def create(options: Options) -> Launcher:
    """The launcher.

    Raises:
        PluginError: there are options; it takes none.
    """
    refuse_unknown("the launcher 'local'", options, ())
    return LocalLauncher()


@hookimpl
def mnist_trials_launchers() -> Iterable[PluginRecord[Launcher]]:
    """The plugin's record."""
    return [PluginRecord("local", "A process per rank on this machine", create)]
