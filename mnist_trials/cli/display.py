"""What is shown of an experiment while it runs, as plain lines: for files, pipes and `inline` debugging."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, final

from typing_extensions import override

from mnist_trials.cli.screen import metrics_text
from mnist_trials.cli.sentences import TrialView, sentence
from mnist_trials.cli.story import Line, Story
from mnist_trials.cli.trial_table import hyperparameters_text
from mnist_trials.clock import Clock, SystemClock
from mnist_trials.events import (
    Event,
    MetricsReported,
    ProgressReported,
    TrialExited,
    TrialStarted,
    ValidationCompleted,
    WorkersExited,
)
from mnist_trials.plugin.logger import Logger, LoggerContext

REPORT_SECONDS = 5.0
"""At most one line of training metrics per trial in this time."""


class Display(Logger):
    """Keeps a `TrialView` per running trial up to date and has what happens put into sentences.

    `story` tells of a search; None: the experiment has one trial, of which everything is told.
    """

    def __init__(self, story: Story | None) -> None:
        self.story = story
        self.views: dict[int, TrialView] = {}
        self.awaited: dict[int, str] = {}  # by trial: what it waits for
        self._experiment_id = 0

    @abstractmethod
    def write(self, text: str) -> None:
        """Show one line that stays."""

    @abstractmethod
    def show(self, view: TrialView, event: Event) -> None:
        """`view` is what it is after `event`; show what changes all the time."""

    def tell(self, line: Line) -> None:
        """Show one line of the story of a search."""
        self.write(line.text)

    def close(self) -> None:
        """Leave the terminal as it was; may be called more than once."""

    @override
    def start(self, context: LoggerContext) -> None:
        self._experiment_id = context.experiment_id

    @override
    def trial_created(self, trial_id: int, hparams: Mapping[str, Any]) -> None:
        if self.story is None:
            self.write(f"trial {self._experiment_id}.{trial_id} created: {hyperparameters_text(hparams)}")

    @override
    def waiting(self, trial_id: int, why: str) -> None:
        """Said once for each time that a trial waits, whoever holds what it waits for in the meantime."""
        if why and trial_id not in self.awaited:
            self.write(f"trial {self._experiment_id}.{trial_id} {why}")
        self.awaited.pop(trial_id, None)
        if why:
            self.awaited[trial_id] = why

    @override
    def event(self, event: Event) -> None:
        view = self.views.setdefault(event.trial_id, TrialView(f"{self._experiment_id}.{event.trial_id}"))
        _update(view, event)
        self.show(view, event)
        if self.story is not None:
            for line in self.story.lines(view, event):
                self.tell(line)
        elif said := sentence(view, event):
            self.write(said)
        if isinstance(event, WorkersExited):
            del self.views[event.trial_id]

    @override
    def finish(self, summary: Mapping[str, Any]) -> None:
        self.close()


@final
class PlainDisplay(Display):
    """Lines."""

    def __init__(self, say: Callable[[str], None], clock: Clock | None = None, story: Story | None = None) -> None:
        super().__init__(story)
        self._say = say
        self._clock = clock or SystemClock()

    @override
    def write(self, text: str) -> None:
        self._say(text)

    @override
    def show(self, view: TrialView, event: Event) -> None:
        if self.story is not None or not isinstance(event, MetricsReported):
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
