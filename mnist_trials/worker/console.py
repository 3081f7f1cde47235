"""A trial without an experiment: what it tells goes to the screen, and Ctrl-C asks it to stop."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import final

from typing_extensions import override

from mnist_trials.events import (
    CheckpointRejected,
    DatasetChosen,
    Event,
    MetricsReported,
    Notice,
    ProgressReported,
    StopRequest,
    TrialStarted,
    TrialTested,
    ValidationCompleted,
)
from mnist_trials.plugin import Channel
from mnist_trials.records import MetricValues, Outcome

_INTERRUPTED = "\nInterrupted: a checkpoint is saved after this batch. Ctrl-C again stops at once."
_SAME_KEYSTROKE = 2.0  # seconds


@final
class ConsoleChannel(Channel):
    """Prints events as plain lines.

    Attributes:
        silent: whether it prints nothing: another rank does.
    """

    def __init__(self) -> None:
        self.silent = False
        self._request: StopRequest | None = None
        self._total: int | None = None

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C was pressed."""
        return self._request is not None

    @override
    def emit(self, event: Event) -> None:
        if isinstance(event, ProgressReported):
            self._total = event.total_batches
        elif not self.silent and (line := self._line(event)):
            print(line, flush=True)

    @override
    def stop_requested(self) -> StopRequest | None:
        return self._request

    @contextmanager
    def interruptible(self, *, passed_on: bool) -> Iterator[None]:
        """Take the first Ctrl-C as a request to stop, for the time of a `with` block; the next one interrupts.

        Only the main thread can do so; elsewhere nothing changes. `passed_on`: whoever started this process passes on
        the terminal's signals, so that the first Ctrl-C may come twice.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.getsignal(signal.SIGINT)

        first: float | None = None

        def interrupt(number: int, frame: FrameType | None) -> None:
            nonlocal first
            if first is None:
                first = time.monotonic()
                self._request = StopRequest(Outcome.PAUSED, "Ctrl-C")
                if not self.silent:
                    print(_INTERRUPTED, flush=True)
            elif not passed_on or time.monotonic() - first > _SAME_KEYSTROKE:
                signal.signal(signal.SIGINT, before)
                signal.raise_signal(signal.SIGINT)

        signal.signal(signal.SIGINT, interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _line(self, event: Event) -> str | None:
        line = None
        match event:
            case TrialStarted():
                goes_on = f", going on after {event.batches} batches" if event.batches else ""
                line = f"Training on {event.device}{goes_on}"
            case DatasetChosen():
                line = f"Data: {event.dataset} ({event.detail})"
            case Notice():
                line = f"Note: {event.message}"
            case CheckpointRejected():
                line = f"Note: checkpoint {event.uuid} was not used: {event.reason}"
            case MetricsReported():
                line = self._metrics("training  ", event.batches, event.epochs, event.metrics)
            case ValidationCompleted():
                line = self._metrics("validation", event.batches, event.epochs, event.metrics)
            case TrialTested():
                line = self._metrics("test      ", event.batches, event.epochs, event.metrics)
        return line

    def _metrics(self, kind: str, batches: int, epochs: float, metrics: MetricValues) -> str:
        total = f"/{self._total}" if self._total else ""
        values = [f"{name} {'NaN' if value is None else format(value, '.4g')}" for name, value in metrics.items()]
        return "  ".join([kind, f"batch {batches}{total}", f"epoch {epochs:.2f}", *values])
