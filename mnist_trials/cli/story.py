"""What is said while a search runs: a line for each start, stop and end of a trial, and none for what lies between."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, final

from mnist_trials.cli.explain import Explainer, Terms
from mnist_trials.cli.sentences import TrialView, sentence
from mnist_trials.events import (
    CheckpointRejected,
    DatasetChosen,
    Event,
    Notice,
    TrialExited,
    TrialHeld,
    TrialStarted,
    TrialTested,
    ValidationCompleted,
    WorkersExited,
)
from mnist_trials.records import Outcome

if TYPE_CHECKING:
    from mnist_trials.store import Reader


@final
@dataclass(frozen=True, slots=True)
class Line:
    """Something to be said. `short` is for where there is little room, empty for what must be said in full."""

    text: str
    short: str = ""
    is_start: bool = False  # of a trial


_LEAVE = frozenset({"Stop", "Pause"})
_MOVED = _LEAVE | {"Resume"}


@final
class Story:
    """Tells of the search in the order of its events. Reads what was decided from the store; for one thread."""

    def __init__(self, reader: Reader, experiment_id: int) -> None:
        self._reader = reader
        self._experiment_id = experiment_id
        terms = Terms.of(reader.experiment(experiment_id).config)
        self._explainer = Explainer(experiment_id, terms, partial(reader.trial, experiment_id))
        self._after = reader.last_decision(experiment_id)
        self._explained: set[int] = set()  # trials of which it was said why they leave
        self._said: set[str] = set()  # what holds for many trials is said once

    def lines(self, view: TrialView, event: Event) -> Iterator[Line]:
        """What is to be said of `event`, which is stored already and which `view` knows."""
        match event:
            case TrialStarted():
                yield Line(self._started(view, event), is_start=True)
            case TrialExited():
                yield from self._exited(view, event)
            case DatasetChosen():
                yield from self._once(view, event, f"{event.dataset} {event.detail}")
            case Notice():
                yield from self._once(view, event, event.message)
            case CheckpointRejected() | TrialTested() | WorkersExited():
                if said := sentence(view, event):
                    yield Line(said)
        if isinstance(event, ValidationCompleted | TrialHeld | WorkersExited):
            yield from self._decided()

    def _started(self, view: TrialView, event: TrialStarted) -> str:
        if event.batches:
            return f"trial {view.name} goes on from batch {event.batches}"
        return f"trial {view.name} started: {self._explainer.hyperparameters(event.trial_id)}"

    def _exited(self, view: TrialView, event: TrialExited) -> Iterator[Line]:
        explained = event.trial_id in self._explained
        self._explained.discard(event.trial_id)
        if explained and event.outcome in (Outcome.STOPPED, Outcome.PAUSED):
            return
        values = f": {view.validation}" if event.outcome is Outcome.COMPLETED and view.validation else ""
        yield Line(f"{sentence(view, event)}{values}")

    def _once(self, view: TrialView, event: Event, what: str) -> Iterator[Line]:
        if what not in self._said:
            self._said.add(what)
            if said := sentence(view, event):
                yield Line(said)

    def _decided(self) -> Iterator[Line]:
        for decision in self._reader.each_decision(self._experiment_id, self._after):
            self._after = decision.id
            kinds = {action["action"] for action in decision.actions if action["action"] in _MOVED or action.get("why")}
            if "Shutdown" in kinds:  # before its time: there is a reason
                yield Line(self._explainer.sentence(decision))
            elif kinds & _MOVED:
                yield Line(self._explainer.sentence(decision), self._explainer.short(decision))
            left = (action for action in decision.actions if action["action"] in _LEAVE)
            self._explained.update(action["trial_id"] for action in left)
