"""One worker process: started in a session of its own, watched by the pump, swept up with all it started."""

from __future__ import annotations

import fcntl
import json
import os
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from threading import Lock, Timer
from typing import final

from mnist_trials.events import Event, Notice, Request, from_json, request_to_json
from mnist_trials.plugin import WorkerSpec
from mnist_trials.plugin.processes import identify, kill_group
from mnist_trials_plugins.launchers._pump import CHUNK, Pump

MODULE = "mnist_trials.worker"
_SOON = 0.05  # seconds


@final
class Worker:
    """A process and the three pipes to it: its output, its events, the requests to it.

    `request` and `kill` are for every thread; what `watch` starts runs on the pump's. `variables` are set in the
    process besides those of its spec, which go before them.

    Raises:
        OSError: the spec could not be written or the process not started; nothing is left behind.
    """

    def __init__(self, spec: WorkerSpec, variables: Mapping[str, str] | None = None) -> None:
        self.spec = spec
        self.exit_code: int | None = None
        self._lock = Lock()  # from the moment the process is waited for, its number may be another's
        self._torn_line = b""
        with ExitStack() as undo:
            output, output_end = _pipe(undo)
            events, events_end = _pipe(undo)
            requests_end, self._requests = _pipe(undo)
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                _command(spec, events_end, requests_end),
                stdin=subprocess.DEVNULL,
                stdout=output_end,
                stderr=output_end,
                cwd=spec.context_dir,
                env={**os.environ, **(variables or {}), **spec.environment, "PYTHONUNBUFFERED": "1"},
                pass_fds=(events_end, requests_end),
                start_new_session=True,
            )
            undo.callback(self._process.wait)
            undo.callback(kill_group, self._process.pid)
            self._end = os.pidfd_open(self._process.pid)
            self.identity = identify(self._process.pid)
            undo.pop_all()
        for descriptor in (output_end, events_end, requests_end):
            os.close(descriptor)
        os.set_blocking(self._requests, False)
        self._takers = {output: self._take_output, events: self._take_events}
        self._events = events

    def request(self, request: Request) -> None:
        """Write a request; no effect on a worker that has ended or does not read."""
        line = json.dumps(request_to_json(request)) + "\n"
        with self._lock, suppress(BrokenPipeError, BlockingIOError):
            if self.exit_code is None:
                os.write(self._requests, line.encode())

    def kill(self) -> None:
        """End the process with all it started."""
        with self._lock:
            if self.exit_code is None:
                kill_group(self._process.pid)

    def watch(
        self, pump: Pump, output: Callable[[bytes], None], event: Callable[[Event], None], ended: Callable[[int], None]
    ) -> None:
        """Carry output and events from now on; `ended` is called with the exit code, once, when the process ends."""
        self._pump = pump
        self._output = output
        self._event = event
        for descriptor in self._takers:
            self._listen(descriptor)
        self._await_end(self._end, lambda: ended(self._peek_exit_code()))

    def hold_events(self, hold: bool) -> None:
        """Leave the pipe of events unread, or read it again; on the pump's thread, after `watch`."""
        if self._events in self._takers:
            self._pump.ignore(self._events)
            if not hold:
                self._listen(self._events)

    def sweep(self, gone: Callable[[], None]) -> None:
        """End what the process started and left behind; `gone` is called when all of it has ended and was heard."""
        again = partial(self.sweep, gone)  # whoever is killed may have started another before
        try:
            left = kill_group(self._process.pid)
            if left:
                self._await_end(os.pidfd_open(left[0]), again)
        except OSError:  # it has ended meanwhile, or this process has too many files open
            Timer(_SOON, self._pump.call, (again,)).start()
        else:
            if not left:
                self._finish()
                gone()

    def _listen(self, descriptor: int) -> None:
        self._pump.watch(descriptor, partial(self._read, descriptor, CHUNK))

    def _await_end(self, descriptor: int, ended: Callable[[], None]) -> None:
        def readable() -> None:
            self._pump.forget(descriptor)
            ended()

        self._pump.watch(descriptor, readable)

    def _peek_exit_code(self) -> int:
        # It stays a zombie until the sweep is over: that keeps its number, which is its group's, from another's use.
        state = os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        assert state is not None
        return state.si_status if state.si_code == os.CLD_EXITED else -state.si_status

    def _finish(self) -> None:
        # Someone who left the session may hold the pipes' other ends for ever, so their end is not waited for.
        for descriptor in tuple(self._takers):
            if size := _readable_bytes(descriptor):
                self._read(descriptor, size)
        for descriptor in tuple(self._takers):
            self._drop(descriptor)
        with self._lock:
            os.close(self._requests)
            self.exit_code = self._process.wait()

    def _read(self, descriptor: int, size: int) -> None:
        if data := os.read(descriptor, size):
            self._takers[descriptor](data)
        else:
            self._drop(descriptor)

    def _drop(self, descriptor: int) -> None:
        del self._takers[descriptor]
        self._pump.forget(descriptor)

    def _take_output(self, data: bytes) -> None:
        self._output(data)

    def _take_events(self, data: bytes) -> None:
        *lines, self._torn_line = (self._torn_line + data).split(b"\n")
        for line in lines:
            self._event(self._parse(line))

    def _parse(self, line: bytes) -> Event:
        try:
            return from_json(json.loads(line))
        except ValueError as error:
            spec = self.spec
            message = f"rank {spec.rank} sent a line that is no event and was left out: {error}: {line[:200]!r}"
            return Notice(trial_id=spec.trial_id, run=spec.run, rank=spec.rank, message=message)


def _command(spec: WorkerSpec, events: int, requests: int) -> list[str]:
    python = spec.python or sys.executable
    return [python, "-P", "-m", MODULE, str(_write_spec(spec)), str(events), str(requests)]


def _pipe(undo: ExitStack) -> tuple[int, int]:
    ends = os.pipe()
    for end in ends:
        undo.callback(os.close, end)
    return ends


def _readable_bytes(descriptor: int) -> int:
    buffer = fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4))
    return int(struct.unpack("i", buffer)[0])


def _write_spec(spec: WorkerSpec) -> Path:
    path = Path(spec.trial_dir, f"worker-rank{spec.rank}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    # Not for other people's eyes: a config may hold the keys of a storage.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        json.dump(spec.to_json(), file, allow_nan=False)
    return path
