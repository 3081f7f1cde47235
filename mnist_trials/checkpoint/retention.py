"""Which checkpoints of an experiment are kept: a pure state machine, told of each as it is saved.

Kept is the union of three sets: the best `experiment_best` checkpoints of all trials together, and of each trial its
best `trial_best` and its latest `trial_latest`. Only one that was validated where it was saved can be among the best.
Who is needed besides (a trial that goes on needs its latest) is said by the caller.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import final


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionPolicy:
    """How many checkpoints are kept."""

    experiment_best: int
    trial_best: int
    trial_latest: int
    smaller_is_better: bool


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SavedCheckpoint:
    """What retention needs to know of a checkpoint."""

    uuid: str
    trial_id: int
    batches: int
    metric: float | None  # None: it was not validated, or the metric was not finite
    number: int  # in the order in which they were saved; of two that are equally good the earlier is better


@final
@dataclass(slots=True)
class _OfTrial:
    best: list[SavedCheckpoint] = field(default_factory=list)  # best first
    latest: list[SavedCheckpoint] = field(default_factory=list)  # latest first
    present: dict[str, SavedCheckpoint] = field(default_factory=dict)


@final
class Retention:
    """Says which checkpoints are not needed any more. What it is asked costs no more than a trial's own checkpoints.

    `needed` tells whether a checkpoint must stay for a reason of its own; one that is held back by it is named as
    surplus when `trial_changed` is called after that reason has gone.
    """

    def __init__(self, policy: RetentionPolicy, needed: Callable[[SavedCheckpoint], bool]) -> None:
        self._policy = policy
        self._needed = needed
        self._best: list[SavedCheckpoint] = []  # of all trials, best first
        self._trials: dict[int, _OfTrial] = {}

    def saved(self, checkpoint: SavedCheckpoint) -> list[SavedCheckpoint]:
        """Take note of a new checkpoint; returns those that need not be kept any more, perhaps itself."""
        policy, trial = self._policy, self._trials.setdefault(checkpoint.trial_id, _OfTrial())
        trial.present[checkpoint.uuid] = checkpoint
        touched = {checkpoint.trial_id}
        insort(trial.latest, checkpoint, key=_age)
        del trial.latest[policy.trial_latest :]
        if checkpoint.metric is not None:
            insort(trial.best, checkpoint, key=self._rank)
            del trial.best[policy.trial_best :]
            insort(self._best, checkpoint, key=self._rank)
            touched |= {dropped.trial_id for dropped in self._best[policy.experiment_best :]}
            del self._best[policy.experiment_best :]
        return self._surplus(touched)

    def trial_changed(self, trial_id: int) -> list[SavedCheckpoint]:
        """What need not be kept any more of a trial that may need less than before."""
        return self._surplus({trial_id})

    def lost(self, checkpoint: SavedCheckpoint) -> None:
        """Forget a checkpoint that is damaged or gone; none that was given up before takes its place."""
        trial = self._trials.get(checkpoint.trial_id, _OfTrial())
        trial.present.pop(checkpoint.uuid, None)
        for kept in (trial.best, trial.latest, self._best):
            if checkpoint in kept:
                kept.remove(checkpoint)

    def _surplus(self, trial_ids: Iterable[int]) -> list[SavedCheckpoint]:
        found: list[SavedCheckpoint] = []
        best = {checkpoint.uuid for checkpoint in self._best}
        for trial_id in sorted(trial_ids):
            trial = self._trials.get(trial_id)
            if trial is None:
                continue
            kept = best | {checkpoint.uuid for checkpoint in (*trial.best, *trial.latest)}
            given_up = [one for one in trial.present.values() if one.uuid not in kept and not self._needed(one)]
            for checkpoint in given_up:
                del trial.present[checkpoint.uuid]
            found += given_up
        return found

    def _rank(self, checkpoint: SavedCheckpoint) -> tuple[float, int]:
        assert checkpoint.metric is not None
        return (checkpoint.metric if self._policy.smaller_is_better else -checkpoint.metric, checkpoint.number)


def _age(checkpoint: SavedCheckpoint) -> tuple[int, int]:
    return (-checkpoint.batches, -checkpoint.number)
