"""Finds a rank that hangs, shows what every rank was doing, and ends the run, so that it is restarted."""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Final, final

from mnist_trials.plugin import Execution, Ranks
from mnist_trials.records import ErrorInfo
from mnist_trials.worker.ending import tell_error
from mnist_trials.worker.recorder import Recorder

if TYPE_CHECKING:
    from mnist_trials.training.context import TrialContext

_STDERR: Final = 2
_OTHERS_SHOW_THEIRS: Final = 5.0  # seconds: they are stuck with this rank and find it out at about the same time
_OTHERS_TELL: Final = 5.0  # more, for a rank that only waits: whoever it waits for knows better why
_WITHOUT_THE_LOCK: Final = 10.0  # seconds after which the interpreter itself counts as stuck


@contextmanager
def watched(context: TrialContext, recorder: Recorder) -> Iterator[None]:
    """Watch over this rank for the time of a `with` block; no effect on a trial of a single rank."""
    if context.size == 1:
        yield
        return
    watchdog = Watchdog(context, recorder)
    watchdog.start()
    try:
        yield
    finally:
        watchdog.stop()


@final
class Watchdog:
    """A thread that looks whether `context.beats` still goes up.

    Where it does not for `watchdog.progress_seconds` of the config, all stacks of this process go to its standard
    error, the rank tells that it failed, and the process ends with status 1. Before the first beat the rank has
    `watchdog.start_seconds` where these are more. `context.rest()` lifts the watch until the next beat. A rank that
    never lets another thread run (a loop in C that keeps the interpreter's lock) is ended by `faulthandler`, which
    needs no lock: its stacks are shown too, but it cannot tell.
    """

    def __init__(self, context: TrialContext, recorder: Recorder) -> None:
        limits = context.experiment_config["watchdog"]
        self._context = context
        self._recorder = recorder
        self._progress = float(limits["progress_seconds"])
        self._start = max(self._progress, float(limits["start_seconds"]))
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._watches = threading.main_thread()

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Watch no longer."""
        self._ended.set()
        self._thread.join()
        faulthandler.cancel_dump_traceback_later()

    def _watch(self) -> None:
        context, beats, since = self._context, -1, 0.0
        while not self._ended.wait(min(1.0, self._progress / 4)):
            now = time.monotonic()
            if context.beats != beats or context.beats == context.rested_at:
                beats, since = context.beats, now
            limit = self._progress if beats else self._start
            faulthandler.dump_traceback_later(limit + _WITHOUT_THE_LOCK, exit=True, file=_STDERR)
            if now - since >= limit:
                self._end_this_process(limit)

    def _end_this_process(self, seconds: float) -> None:
        faulthandler.cancel_dump_traceback_later()
        assert self._watches.ident is not None
        frame = sys._current_frames().get(self._watches.ident)
        waits = _waits_for_others(frame)
        where = "its main thread has ended" if frame is None else f"it is in {_place(frame)}"
        spec = self._context.spec
        who = f"rank {spec.rank} of {spec.size} did nothing for {seconds:g} s"
        os.write(_STDERR, f"\nStuck: {who}; {where}. All its stacks, innermost calls first:\n".encode())
        faulthandler.dump_traceback(file=_STDERR, all_threads=True)
        time.sleep(_OTHERS_SHOW_THEIRS + _OTHERS_TELL * waits)
        error = ErrorInfo(
            type="Stuck",
            message=f"{who}: {where}{' and waits for other ranks' * waits}. The log has the stacks of every rank.",
            traceback="".join(traceback.format_stack(frame)),
            batches=self._batches(),
        )
        tell_error(spec, self._recorder, error)
        os._exit(1)

    def _batches(self) -> int:
        trainer = self._context.trainer
        return self._recorder.batches if trainer is None else trainer.batches


def _waits_for_others(frame: FrameType | None) -> bool:
    """Whether `frame` or one that called it is a step that all ranks take together."""
    while frame is not None:
        if isinstance(frame.f_locals.get("self"), Ranks | Execution) or "torch.distributed" in str(
            frame.f_globals.get("__name__")
        ):
            return True
        frame = frame.f_back
    return False


def _place(frame: FrameType) -> str:
    code = frame.f_code
    return f"{code.co_qualname} ({code.co_filename}:{frame.f_lineno})"
