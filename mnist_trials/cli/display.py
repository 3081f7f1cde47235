"""What is shown of an experiment while it runs, as plain lines: for files, pipes and `inline` debugging."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, final

from typing_extensions import override

from mnist_trials.cli.screen import ATTENTION, metrics_text
from mnist_trials.clock import Clock, SystemClock
from mnist_trials.events import (
    CheckpointRejected,
    CheckpointSaved,
    DatasetChosen,
    Event,
    MetricsReported,
    Notice,
    ProgressReported,
    TrialExited,
    TrialStarted,
    ValidationCompleted,
    WorkersExited,
)
from mnist_trials.plugin.logger import Logger, LoggerContext
from mnist_trials.records import Outcome

REPORT_SECONDS = 5.0
"""At most one line of training metrics per trial in this time."""


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


class Display(Logger):
    """Keeps a `TrialView` per trial up to date and puts what happens into sentences."""

    def __init__(self) -> None:
        self.views: dict[int, TrialView] = {}
        self._experiment_id = 0

    @abstractmethod
    def write(self, text: str) -> None:
        """Show one line that stays."""

    @abstractmethod
    def show(self, view: TrialView, event: Event) -> None:
        """`view` is what it is after `event`; show what changes all the time."""

    def close(self) -> None:
        """Leave the terminal as it was; may be called more than once."""

    @override
    def start(self, context: LoggerContext) -> None:
        self._experiment_id = context.experiment_id

    @override
    def trial_created(self, trial_id: int, hparams: Mapping[str, Any]) -> None:
        values = "  ".join(f"{name} {value}" for name, value in hparams.items())
        self.write(f"trial {self._view(trial_id).name} created: {values or 'no hyperparameters'}")

    @override
    def event(self, event: Event) -> None:
        view = self._view(event.trial_id)
        _update(view, event)
        self.show(view, event)
        sentence = _SENTENCES.get(type(event))
        if sentence is not None and (text := sentence(view, event)):
            self.write(text)

    @override
    def finish(self, summary: Mapping[str, Any]) -> None:
        self.close()

    def _view(self, trial_id: int) -> TrialView:
        return self.views.setdefault(trial_id, TrialView(f"{self._experiment_id}.{trial_id}"))


@final
class PlainDisplay(Display):
    """Lines."""

    def __init__(self, say: Callable[[str], None], clock: Clock | None = None) -> None:
        super().__init__()
        self._say = say
        self._clock = clock or SystemClock()

    @override
    def write(self, text: str) -> None:
        self._say(text)

    @override
    def show(self, view: TrialView, event: Event) -> None:
        if not isinstance(event, MetricsReported):
            return
        now = self._clock.monotonic()
        if view.said is None or now - view.said >= REPORT_SECONDS:
            view.said = now
            parts = [f"{view.place} (epoch {view.epochs:.2f})", view.training, view.speed]
            self.write(f"trial {view.name} {'  '.join(part for part in parts if part)}")


def _update(view: TrialView, event: Event) -> None:
    match event:
        case TrialStarted():
            view.run, view.running, view.ended = event.run, True, None
            view.batches, view.rate = event.batches, None
            view.records = None if event.batches else 0
        case ProgressReported():
            view.batches, view.epochs = event.batches, event.epochs
            view.total_batches = event.total_batches
        case MetricsReported():
            if view.records is not None and event.seconds > 0:
                view.rate = (event.records - view.records) / event.seconds
            view.batches, view.epochs, view.records = event.batches, event.epochs, event.records
            view.training = metrics_text(event.metrics)
        case ValidationCompleted():
            view.validation = metrics_text(event.metrics)
        case TrialExited():
            view.ended, view.batches = event.outcome, event.batches
        case WorkersExited():
            view.running = False


def _started(view: TrialView, event: TrialStarted) -> str:
    where = f"on {event.device} of {event.host}, process {event.pid}"
    if event.checkpoint is None:
        return f"trial {view.name} started {where}"
    return f"trial {view.name} goes on from batch {event.batches} (checkpoint {event.checkpoint}) {where}"


def _data(view: TrialView, event: DatasetChosen) -> str:
    if event.fallback:
        return f"{ATTENTION}: trial {view.name} trains on {event.dataset}. {event.detail}"
    return f"trial {view.name} data: {event.dataset}, {event.detail}"


def _notice(view: TrialView, event: Notice) -> str:
    return f"trial {view.name} notice: {event.message}"


def _validation(view: TrialView, event: ValidationCompleted) -> str:
    return f"trial {view.name} validation at batch {event.batches}: {view.validation}"


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


_FAILED = (Outcome.FAILED, Outcome.INVALID_HP)

_SENTENCES: dict[type[Event], Callable[[TrialView, Any], str | None]] = {
    TrialStarted: _started,
    DatasetChosen: _data,
    Notice: _notice,
    ValidationCompleted: _validation,
    CheckpointSaved: _saved,
    CheckpointRejected: _rejected,
    TrialExited: _exited,
    WorkersExited: _gone,
}
"""What stays to be read after an event; the view knows the event already."""


def _death(event: WorkersExited) -> str:
    if event.reason:
        return f"could not be started or was lost: {event.reason}"
    signals = sorted({-code for code in event.exit_codes if code is not None and code < 0})
    if signals:
        return f"was ended by signal {', '.join(map(str, signals))}"
    return f"ended without a word, exit status {', '.join(str(code) for code in event.exit_codes)}"
