"""The trials of an experiment, so that whatever is asked of them at an event is answered without looking at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from heapq import heappop, heappush
from typing import final

from mnist_trials.experiment.live import LiveTrial
from mnist_trials.records import TrialState


@final
class Trials:
    """Those that have not ended, by id, and how many there ever were.

    Trials that can start do so in the order of their ids.
    """

    def __init__(
        self, live: Iterable[LiveTrial] = (), ended: Counter[TrialState] | None = None, judged: bool = False
    ) -> None:
        self.judged = judged  # the searcher had been told of a validation when this controller began
        self.live: dict[int, LiveTrial] = {}
        self.ended: Counter[TrialState] = Counter() if ended is None else ended
        self.created = self.ended.total()
        self.running: dict[int, LiveTrial] = {}
        self.resting: dict[int, LiveTrial] = {}  # paused by the searcher, whether they run still or not
        self.changed: set[int] = set()  # of these other checkpoints may be needed than before; whoever looks clears it
        self._borrowers: dict[str, set[int]] = {}  # by checkpoint of another trial: those that begin, or began, with it
        self._heirs: dict[int, dict[int, LiveTrial]] = {}  # by source: those that wait for its weights
        self._ready: set[int] = set()
        self._in_order: list[int] = []  # a heap of those that are ready, and of some that were
        for trial in live:
            self.add(trial)

    def add(self, trial: LiveTrial) -> None:
        """Add a trial, the newest."""
        self.live[trial.row.trial_id] = trial
        self.created += 1
        self.place(trial)

    def place(self, trial: LiveTrial) -> None:
        """Put `trial`, one of `live`, where it belongs now; to be called when that may have changed."""
        trial_id, source = trial.row.trial_id, trial.row.source_trial
        _put(self.running, trial, trial.running)
        _put(self.resting, trial, trial.row.resting)
        self.changed.add(trial_id)
        if trial.weights is not None:
            self._borrowers.setdefault(trial.weights, set()).add(trial_id)
        if source is not None:
            _put(self._heirs.setdefault(source, {}), trial, trial.without_source)
        if trial.running or trial.at_rest or trial.without_source:
            self._ready.discard(trial_id)
        elif trial_id not in self._ready:
            self._ready.add(trial_id)
            heappush(self._in_order, trial_id)

    def remove(self, trial: LiveTrial, state: TrialState) -> None:
        """Take out a trial that has ended as `state`."""
        trial_id, source = trial.row.trial_id, trial.row.source_trial
        del self.live[trial_id]
        self.ended[state] += 1
        for group in (self.running, self.resting, *([] if source is None else [self._heirs[source]])):
            group.pop(trial_id, None)
        self._ready.discard(trial_id)
        self.changed.add(trial_id)
        if trial.weights is not None and source is not None:
            self._borrowers[trial.weights].discard(trial_id)
            if not self._borrowers[trial.weights]:
                del self._borrowers[trial.weights]
            self.changed.add(source)

    def is_borrowed(self, uuid: str) -> bool:
        """Whether a trial that has not ended begins, or began, with the checkpoint `uuid` of another."""
        return uuid in self._borrowers

    def first_ready(self) -> LiveTrial | None:
        """The first of those that can start."""
        while self._in_order and self._in_order[0] not in self._ready:
            heappop(self._in_order)
        return self.live[self._in_order[0]] if self._in_order else None

    def heirs(self, source: int) -> list[LiveTrial]:
        """The trials that wait for weights of trial `source`."""
        return list(self._heirs.get(source, {}).values())

    def all_heirs(self) -> list[LiveTrial]:
        """The trials that wait for weights of another."""
        return [trial for heirs in self._heirs.values() for trial in heirs.values()]


def _put(group: dict[int, LiveTrial], trial: LiveTrial, belongs: bool) -> None:
    if belongs:
        group[trial.row.trial_id] = trial
    else:
        group.pop(trial.row.trial_id, None)
