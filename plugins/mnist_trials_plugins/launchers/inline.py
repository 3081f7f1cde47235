"""The launcher `inline`: the trial runs in this very process, so that a debugger reaches it.

    launcher: inline

`breakpoint()` in a trial works as in any script. One trial runs at a time, with one rank.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import IO, Any, final

from typing_extensions import override

from mnist_trials.errors import PluginError
from mnist_trials.events import Event, GoOn, Request, StopRequest, WorkersExited, WorkersLaunched
from mnist_trials.plugin import (
    Channel,
    Deliver,
    Launcher,
    Options,
    PluginRecord,
    WorkerHandle,
    WorkerSpec,
    hookimpl,
    refuse_unknown,
    resolve_target,
)
from mnist_trials_plugins.launchers._log import RotatingLog
from mnist_trials_plugins.launchers._reasons import KILLED_BEFORE, not_started

_KILLED = -signal.SIGKILL
_INTERRUPTED = 130


@final
class _Killed(BaseException):
    """Ends a run that was killed; no worker catches it."""


@final
class _InlineChannel(Channel):
    """Hands events straight over: by then the controller has done all that it does about them, and has answered."""

    def __init__(self, deliver: Deliver) -> None:
        self._deliver = deliver
        self._request: StopRequest | None = None
        self._word: GoOn | None = None
        self.killed = False

    @override
    def emit(self, event: Event) -> None:
        self._end_if_killed()
        self._deliver(event)

    @override
    def stop_requested(self) -> StopRequest | None:
        self._end_if_killed()
        return self._request

    @override
    def wait_for_word(self) -> Request:
        self._end_if_killed()
        answer = self._request or self._word
        if answer is None:
            raise PluginError(
                "The trial is held, but the controller that it runs in has not said whether it may go on, and nobody "
                "else can: under the launcher 'inline' the answer must come while `deliver` is called."
            )
        self._word = None
        return answer

    def hear(self, request: Request) -> None:
        """Take a request; from a signal's handler too."""
        if isinstance(request, StopRequest):
            self._request = request
        else:
            self._word = request

    def _end_if_killed(self) -> None:
        if self.killed:
            raise _Killed


@final
class InlineHandle(WorkerHandle):
    """One run in this process.

    `start` returns when the run has ended. `request` and `kill` come from another thread or from a signal's handler,
    so they set an attribute and wait for nothing; a killed run ends when it next says or asks something, which a
    Trainer does after every batch.
    """

    def __init__(self, specs: Sequence[WorkerSpec]) -> None:
        self._specs = tuple(specs)
        self._gone = threading.Event()
        self._channel: _InlineChannel | None = None
        self._killed = False

    @override
    def start(self, deliver: Deliver) -> None:
        spec = self._specs[0]
        exit_code, reason = None, self._refusal()
        if reason is None:
            self._channel = _InlineChannel(deliver)
            self._channel.killed = self._killed
            try:
                exit_code = _run(spec, self._channel)
            except OSError as error:
                reason = not_started(0, error)
        codes = (exit_code, *(None for _ in self._specs[1:]))
        deliver(WorkersExited(trial_id=spec.trial_id, run=spec.run, exit_codes=codes, reason=reason))
        self._gone.set()

    @override
    def request(self, request: Request) -> None:
        if self._channel is not None:
            self._channel.hear(request)

    @override
    def kill(self) -> None:
        self._killed = True
        if self._channel is not None:
            self._channel.killed = True

    @override
    def join(self, timeout: float) -> bool:
        return self._gone.wait(timeout)

    def _refusal(self) -> str | None:
        if self._killed:
            return KILLED_BEFORE
        if len(self._specs) > 1:
            return f"the launcher 'inline' runs one rank, not {len(self._specs)}; use `launcher: local`"
        return None


def _run(spec: WorkerSpec, channel: Channel) -> int:
    """Call the spec's target as a process of its own would; returns the exit status it would have had.

    Raises:
        OSError: its directory or log cannot be opened; it was not called.
    """
    with ExitStack() as undo:
        undo.enter_context(_as_if_alone(spec))
        undo.enter_context(_logged(Path(spec.log_path)))
        try:
            channel.emit(WorkersLaunched(trial_id=spec.trial_id, run=spec.run))
            return resolve_target(spec)(spec, channel)
        except _Killed:
            return _KILLED
        except KeyboardInterrupt:
            return _INTERRUPTED
        except SystemExit as error:
            return error.code if isinstance(error.code, int) else int(error.code is not None)
        except BaseException:  # such as asyncio.CancelledError: it ends the trial, not the controller
            traceback.print_exc()
            return 1


@contextmanager
def _as_if_alone(spec: WorkerSpec) -> Iterator[None]:
    """Lend this process to a worker, and put it back as it was.

    That is: directory, environment, `sys.path`, `sys.argv`, signal handlers, and no modules from the context.
    """
    path, argv, environment, modules = list(sys.path), list(sys.argv), dict(os.environ), set(sys.modules)
    handlers = _signal_handlers()
    directory = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.chdir(spec.context_dir)
        os.environ.update(spec.environment)
        yield
    finally:
        os.fchdir(directory)
        os.close(directory)
        sys.path[:], sys.argv[:] = path, argv
        os.environ.clear()
        os.environ.update(environment)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        _forget_modules(Path(spec.context_dir), modules)


def _signal_handlers() -> dict[int, Any]:
    if threading.current_thread() is not threading.main_thread():
        return {}  # only the main thread can set any
    changeable = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
    handlers = {number: signal.getsignal(number) for number in changeable}
    return {number: handler for number, handler in handlers.items() if handler is not None}  # None: not Python's


def _forget_modules(context: Path, before: set[str]) -> None:
    # Another experiment in this process may have another `trial.py`.
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None)
        if file is not None and Path(file).is_relative_to(context):
            del sys.modules[name]


@contextmanager
def _logged(path: Path) -> Iterator[None]:
    """Copy what is printed to the trial's log; it still goes to the screen, where a debugger needs it."""
    log = RotatingLog(path)
    try:
        with redirect_stdout(_Copy(sys.stdout, log)), redirect_stderr(_Copy(sys.stderr, log)):
            yield
    finally:
        log.close()


@final
class _Copy:
    """A text stream that also writes to a log.

    Everything else is the stream's own, so that `input` and pdb find the terminal.
    """

    def __init__(self, stream: IO[str], log: RotatingLog) -> None:
        self._stream = stream
        self._log = log

    def write(self, text: str) -> int:
        """Write to both; a log that cannot be written is no reason to end the trial."""
        with suppress(OSError):
            self._log.write(text.encode("utf-8", "backslashreplace"))
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@final
class InlineLauncher(Launcher):
    """Runs workers in this process."""

    @override
    def create(self, workers: Sequence[WorkerSpec]) -> InlineHandle:
        return InlineHandle(workers)

    @property
    @override
    def starts_processes(self) -> bool:
        return False

    @property
    @override
    def several_ranks(self) -> bool:
        return False


def create(options: Options) -> Launcher:
    """The launcher.

    Raises:
        PluginError: there are options; it takes none.
    """
    refuse_unknown("the launcher 'inline'", options, ())
    return InlineLauncher()


@hookimpl
def mnist_trials_launchers() -> Iterable[PluginRecord[Launcher]]:
    """The plugin's record."""
    return [PluginRecord("inline", "In this very process, for debuggers; one trial at a time", create)]
