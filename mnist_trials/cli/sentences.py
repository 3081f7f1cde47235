"""What is said of an event in a trial's life."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from mnist_trials.cli.screen import ATTENTION, metrics_text
from mnist_trials.events import (
    CheckpointRejected,
    CheckpointSaved,
    DatasetChosen,
    Event,
    Notice,
    TrialExited,
    TrialStarted,
    TrialTested,
    ValidationCompleted,
    WorkersExited,
)
from mnist_trials.records import Outcome


@dataclass(slots=True)
class TrialView:
    """What is known of one trial for showing it."""

    name: str  # "3.1"
    run: int = 0
    running: bool = False
    batches: int = 0
    epochs: float = 0.0
    records: int | None = None  # None: unknown until the next report
    total_batches: int | None = None
    rate: float | None = None  # samples per second over the last reporting period
    training: str = ""
    validation: str = ""
    ended: Outcome | None = None  # how the worker said it ended
    said: float | None = None  # when its training metrics were last written

    @property
    def place(self) -> str:
        """`batch 100/938`."""
        return f"batch {self.batches}" if self.total_batches is None else f"batch {self.batches}/{self.total_batches}"

    @property
    def speed(self) -> str:
        """`5200 samples/s`, or nothing while it is unknown."""
        return "" if self.rate is None else f"{self.rate:,.0f} samples/s"


def sentence(view: TrialView, event: Event) -> str | None:
    """What stays to be read after `event`, which `view` knows already; None: nothing."""
    make = _SENTENCES.get(type(event))
    return None if make is None else make(view, event)


def _started(view: TrialView, event: TrialStarted) -> str:
    where = f"on {event.device} of {event.host}, process {event.pid}"
    if event.checkpoint is None:
        return f"trial {view.name} started {where}"
    if not event.batches:
        return f"trial {view.name} started with the weights of checkpoint {event.checkpoint} {where}"
    return f"trial {view.name} goes on from batch {event.batches} (checkpoint {event.checkpoint}) {where}"


def _data(view: TrialView, event: DatasetChosen) -> str:
    if event.fallback:
        return f"{ATTENTION}: trial {view.name} trains on {event.dataset}. {event.detail}"
    return f"trial {view.name} data: {event.dataset}, {event.detail}"


def _notice(view: TrialView, event: Notice) -> str:
    return f"trial {view.name} notice: {event.message}"


def _validation(view: TrialView, event: ValidationCompleted) -> str:
    return f"trial {view.name} validation at batch {event.batches}: {view.validation}"


def _tested(view: TrialView, event: TrialTested) -> str:
    return f"trial {view.name} test of its best checkpoint, of batch {event.batches}: {metrics_text(event.metrics)}"


def _saved(view: TrialView, event: CheckpointSaved) -> str:
    return f"trial {view.name} checkpoint at batch {event.checkpoint.batches}: {event.checkpoint.uuid}"


def _rejected(view: TrialView, event: CheckpointRejected) -> str:
    return f"{ATTENTION}: trial {view.name} checkpoint {event.uuid} is not used: {event.reason}"


def _exited(view: TrialView, event: TrialExited) -> str:
    if event.error is None:
        return f"trial {view.name} {event.outcome} at batch {event.batches}"
    message = event.error.message.partition("\n")[0]
    return f"trial {view.name} failed at batch {event.batches}: {event.error.type}: {message}"


def _gone(view: TrialView, event: WorkersExited) -> str | None:
    if view.ended is None:
        return f"{ATTENTION}: trial {view.name} {_death(event)}"
    if view.ended in _FAILED or not any(event.exit_codes):
        return None
    status = ", ".join(str(code) for code in event.exit_codes)
    return f"{ATTENTION}: trial {view.name} had ended when its process failed, exit status {status}; see its log"


_FAILED: Final = (Outcome.FAILED, Outcome.INVALID_HP)

_SENTENCES: Final[dict[type[Event], Callable[[TrialView, Any], str | None]]] = {
    TrialStarted: _started,
    DatasetChosen: _data,
    Notice: _notice,
    ValidationCompleted: _validation,
    TrialTested: _tested,
    CheckpointSaved: _saved,
    CheckpointRejected: _rejected,
    TrialExited: _exited,
    WorkersExited: _gone,
}


def _death(event: WorkersExited) -> str:
    if event.reason:
        return f"could not be started or was lost: {event.reason}"
    signals = sorted({-code for code in event.exit_codes if code is not None and code < 0})
    if signals:
        return f"was ended by signal {', '.join(map(str, signals))}"
    return f"ended without a word, exit status {', '.join(str(code) for code in event.exit_codes)}"
