"""Which checkpoints of an experiment are kept while it runs: what the config asks for, and what somebody needs.

Somebody needs, whatever the config says:

- of a trial that has not ended, its latest one, from which it goes on (whether it runs, waits, rests or is paused), and
  the first one since it was last judged, with which the searcher may have another trial begin;
- of a trial whose worker is about to start, all that the worker may go on from;
- of any trial, one whose weights a trial that has not ended began with, or will;
- one that the trials of another experiment, not ended yet, start from.

A new checkpoint counts once it was verified where it lies: until then those that it will take the place of stay.

What is not kept becomes DELETING in the transaction of the event that made it so, and is deleted after the commit.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import final

from mnist_trials.checkpoint.budget import ByteBudget
from mnist_trials.checkpoint.retention import Retention, RetentionPolicy, SavedCheckpoint
from mnist_trials.config import ExperimentConfig
from mnist_trials.experiment import bookkeeping
from mnist_trials.experiment.live import LiveTrial
from mnist_trials.experiment.trials import Trials
from mnist_trials.records import CheckpointInfo
from mnist_trials.store import Transaction
from mnist_trials.store.rows import CheckpointRow


@final
class Keeper:
    """Gives checkpoints up. What an event costs here does not depend on how many trials there are."""

    def __init__(self, experiment_id: int, config: ExperimentConfig, trials: Trials) -> None:
        smaller, storage = config.searcher.smaller_is_better, config.checkpoint_storage
        policy = RetentionPolicy(
            experiment_best=storage.save_experiment_best,
            trial_best=storage.save_trial_best,
            trial_latest=storage.save_trial_latest,
            smaller_is_better=smaller,
        )
        self._experiment_id = experiment_id
        self._config = config
        self._metric = config.searcher.metric
        self._limit = storage.max_checkpoint_bytes
        self._trials = trials
        self._retention = Retention(policy, self._is_needed)
        self._budget = ByteBudget(self._limit, smaller_is_better=smaller)
        self._there: dict[str, SavedCheckpoint] = {}
        self._awaited: dict[str, tuple[SavedCheckpoint, int]] = {}  # not verified yet, each with its bytes
        self._unverified: list[str] = []  # of those, the ones that nobody was told to verify
        self._elsewhere: frozenset[str] = frozenset()  # what other experiments start from
        self._loaded = False
        self._surplus: list[SavedCheckpoint] = []

    @property
    def over(self) -> str:
        """Why the experiment cannot go on: what is needed takes more than is allowed. Empty: it can."""
        if not self._budget.exceeded:
            return ""
        return (
            f"its checkpoints take {self._budget.total:,} bytes, checkpoint_storage.max_checkpoint_bytes allows "
            f"{self._limit:,}, and all of them are needed by trials that have not ended. "
            f"`mnist-trials cancel {self._experiment_id}` ends those; `mnist-trials fork {self._experiment_id} "
            f"--config checkpoint_storage.max_checkpoint_bytes=N` begins anew with more room"
        )

    def without_trials(self) -> Keeper:
        """One for the same experiment that goes by the store alone, when every trial has ended."""
        return Keeper(self._experiment_id, self._config, Trials())

    def saved(self, transaction: Transaction, trial_id: int, info: CheckpointInfo) -> None:
        """There is a new checkpoint; its row is written, and its trial has it among its own."""
        self._await(self._as_saved(trial_id, info, transaction.sequence), info.bytes)

    def unverified(self) -> list[str]:
        """The checkpoints that are to be verified, each told once."""
        told, self._unverified = self._unverified, []
        return told

    def verified(self, transaction: Transaction, results: Iterable[tuple[str, str]]) -> list[tuple[int, str]]:
        """Put on record what is wrong with each of some checkpoints ("" for nothing).

        Returns what to tell people: of which trial, and what. One that was given up in the meantime says nothing.
        """
        self._look_elsewhere(transaction)
        told = []
        for uuid, damage in results:
            checkpoint, size = self._awaited.pop(uuid, (None, 0))
            if checkpoint is None:
                continue
            if damage:
                transaction.damage_checkpoint(self._experiment_id, checkpoint.trial_id, uuid)
                self._drop_from_trials(transaction, [checkpoint])
                told.append((checkpoint.trial_id, f"the checkpoint {uuid} is damaged; those before it stay: {damage}"))
            else:
                transaction.checkpoint_verified(uuid)
                self._add(checkpoint, size)
            self._trials.changed.add(checkpoint.trial_id)
        return told

    def lost(self, uuid: str) -> None:
        """A checkpoint turned out to be damaged. It is no longer counted, and what lies there is left alone."""
        self._awaited.pop(uuid, None)
        if (checkpoint := self._there.pop(uuid, None)) is not None:
            self._retention.lost(checkpoint)
            self._budget.remove(uuid)

    def began(self, trial_id: int, left: Iterable[str]) -> None:
        """A run of the trial has begun; `left` are its checkpoints beyond that point, a past that it has left."""
        self._trials.changed.add(trial_id)
        for uuid in left:
            awaited, _ = self._awaited.get(uuid, (None, 0))
            if (checkpoint := self._there.get(uuid, awaited)) is not None:
                self.lost(uuid)
                self._surplus.append(checkpoint)

    def review(self, transaction: Transaction) -> list[str]:
        """Write down what is not kept any more, by what has changed since the last time; returns what to delete."""
        if self._loaded and not (self._trials.changed or self._surplus or self._budget.exceeded):
            return []
        self._look_elsewhere(transaction)
        if not self._loaded:
            self._load(transaction.usable_checkpoints(self._experiment_id))
        for trial_id in self._changed():
            self._surplus += self._retention.trial_changed(trial_id)
            self._budget.trial_changed(trial_id)
        for checkpoint in self._surplus:
            self._budget.remove(checkpoint.uuid)
        for checkpoint in self._budget.excess(self._is_needed):
            self._retention.lost(checkpoint)
            self._surplus.append(checkpoint)
        given_up, self._surplus = self._surplus, []
        self._write(transaction, given_up)
        return [checkpoint.uuid for checkpoint in given_up]

    def _look_elsewhere(self, transaction: Transaction) -> None:
        self._elsewhere = transaction.sources_elsewhere(self._experiment_id)

    def _load(self, found: Iterable[CheckpointRow]) -> None:
        self._loaded = True
        own = {trial_id: {uuid for _, uuid in trial.checkpoints} for trial_id, trial in self._trials.live.items()}
        for number, row in enumerate(found):  # below the sequence of any to come, so that the order holds
            checkpoint = self._as_saved(row.trial_id, row, number)
            if row.uuid not in own.get(row.trial_id, {row.uuid}):  # of a past that its trial has left
                self._surplus.append(checkpoint)
            elif row.verified:
                self._add(checkpoint, row.bytes)
            else:
                self._await(checkpoint, row.bytes)

    def _as_saved(self, trial_id: int, info: CheckpointInfo | CheckpointRow, number: int) -> SavedCheckpoint:
        metric = info.metrics.get(self._metric)
        return SavedCheckpoint(uuid=info.uuid, trial_id=trial_id, batches=info.batches, metric=metric, number=number)

    def _await(self, checkpoint: SavedCheckpoint, size: int) -> None:
        self._awaited[checkpoint.uuid] = (checkpoint, size)
        self._unverified.append(checkpoint.uuid)

    def _add(self, checkpoint: SavedCheckpoint, size: int) -> None:
        self._there[checkpoint.uuid] = checkpoint
        self._budget.add(checkpoint, size)
        self._surplus += self._retention.saved(checkpoint)
        self._budget.trial_changed(checkpoint.trial_id)

    def _changed(self) -> list[int]:
        changed = sorted(self._trials.changed)
        self._trials.changed.clear()
        return changed

    def _is_needed(self, checkpoint: SavedCheckpoint) -> bool:
        uuid = checkpoint.uuid
        if uuid in self._elsewhere or self._trials.is_borrowed(uuid):
            return True
        trial = self._trials.live.get(checkpoint.trial_id)
        return trial is not None and trial.needs(uuid, self._awaited)

    def _write(self, transaction: Transaction, given_up: list[SavedCheckpoint]) -> None:
        for checkpoint in given_up:
            self._there.pop(checkpoint.uuid, None)
            transaction.give_up_checkpoint(self._experiment_id, checkpoint.trial_id, checkpoint.uuid)
        self._drop_from_trials(transaction, given_up)

    def _drop_from_trials(self, transaction: Transaction, gone: Iterable[SavedCheckpoint]) -> None:
        touched: dict[int, LiveTrial] = {}
        for checkpoint in gone:
            trial = self._trials.live.get(checkpoint.trial_id)
            if trial is not None:
                trial.checkpoints = [entry for entry in trial.checkpoints if entry[1] != checkpoint.uuid]
                touched[checkpoint.trial_id] = trial
        for trial in touched.values():
            trial.row = bookkeeping.with_checkpoints(trial.row, trial.checkpoints)
            transaction.put_trial(trial.row)
