"""What each event of a worker changes: in the store, in the trial, and in the search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import ClassVar, final

from mnist_trials.config import ExperimentConfig
from mnist_trials.events import (
    CheckpointRejected,
    CheckpointSaved,
    DatasetChosen,
    Event,
    HistogramsReported,
    MetricsReported,
    Notice,
    ProgressReported,
    TrialExited,
    TrialHeld,
    TrialStarted,
    TrialTested,
    ValidationCompleted,
    WorkersExited,
    WorkersLaunched,
)
from mnist_trials.experiment import bookkeeping
from mnist_trials.experiment.bookkeeping import Goal
from mnist_trials.experiment.decisions import Decisions
from mnist_trials.experiment.followers import Followers
from mnist_trials.experiment.keeping import Keeper
from mnist_trials.experiment.ledger import Step
from mnist_trials.experiment.live import LiveTrial
from mnist_trials.experiment.ranks import with_exit
from mnist_trials.experiment.run_ends import RunEnds
from mnist_trials.experiment.trials import Trials
from mnist_trials.experiment.validations import Validations
from mnist_trials.records import TrialState
from mnist_trials.store.rows import RunRow


@final
class TrialEvents:
    """Applies events to trials, each within the step at hand."""

    def __init__(
        self,
        experiment_id: int,
        config: ExperimentConfig,
        trials: Trials,
        decisions: Decisions,
        followers: Followers,
        keeper: Keeper,
        max_restarts: int,
    ) -> None:
        self._experiment_id = experiment_id
        self._trials = trials
        self._keeper = keeper
        self._goal = Goal(config.searcher.metric, config.searcher.smaller_is_better)
        self._decisions = decisions
        self._followers = followers
        self._validations = Validations(config, decisions, self.notice, begun=trials.judged)
        self.ends = RunEnds(
            experiment_id,
            trials,
            decisions,
            self.notice,
            command=bool(config.entrypoint.command),
            max_restarts=max_restarts,
        )

    def apply(self, step: Step, trial: LiveTrial, run: RunRow, event: Event) -> None:
        """Apply `event`, which is of `run`, the attempt of `trial` that is on, and have the followers told.

        Raises:
            UnknownMetric: see `Validations.take`.
        """
        self._APPLY[type(event)](self, step, trial, run, event)
        if not isinstance(event, TrialExited) or with_exit(run, event) is not run:
            step.then(partial(self._followers.event, event))

    def note_progress(self, trial: LiveTrial, event: ProgressReported) -> None:
        """Take note of progress in memory; it is stored with what is stored of the trial next."""
        trial.reported = True
        trial.row = bookkeeping.with_progress(trial.row, event)
        if trial.run is not None:
            trial.run = replace(trial.run, batches=event.batches)

    def notice(self, step: Step, trial: LiveTrial, message: str) -> None:
        """Tell a person, on screen and in the record."""
        trial_id = trial.row.trial_id
        step.transaction.add_notice(self._experiment_id, trial_id, message)
        told = Notice(trial_id=trial_id, run=trial.runs, message=message)
        step.then(lambda: self._followers.event(told))

    def tell(self, step: Step, trial_id: int, message: str) -> None:
        """As `notice`, of a trial that may have ended."""
        trial = self._trials.live.get(trial_id)
        if trial is None:
            step.transaction.add_notice(self._experiment_id, trial_id, message)
        else:
            self.notice(step, trial, message)

    def _launched(self, step: Step, trial: LiveTrial, run: RunRow, event: WorkersLaunched) -> None:
        known = run.processes
        self._put_run(step, trial, replace(run, processes=(*known, *(p for p in event.processes if p not in known))))

    def _started(self, step: Step, trial: LiveTrial, run: RunRow, event: TrialStarted) -> None:
        transaction, row = step.transaction, trial.row
        # What lies beyond could not be read and belongs to a past that this run leaves.
        left = [uuid for batches, uuid in trial.checkpoints if batches > event.batches]
        trial.checkpoints = [entry for entry in trial.checkpoints if entry[0] <= event.batches]
        self._keeper.began(row.trial_id, left)
        transaction.supersede_metrics(self._experiment_id, row.trial_id, event.batches)
        transaction.forget_histograms(self._experiment_id, row.trial_id, event.batches)
        row = replace(row, state=TrialState.RUNNING, batches=event.batches, message="")
        if row.best_batches is not None and row.best_batches > event.batches:
            validations = transaction.validations(self._experiment_id, row.trial_id)
            row = bookkeeping.with_best_of(row, self._goal, validations)
        trial.row = bookkeeping.with_checkpoints(row, trial.checkpoints)
        transaction.put_trial(trial.row)
        started = replace(
            run, start_batches=event.batches, batches=event.batches, backend=event.backend, device=event.device
        )
        self._put_run(step, trial, started)
        self._validations.steer(step, trial)

    def _dataset(self, step: Step, trial: LiveTrial, run: RunRow, event: DatasetChosen) -> None:
        trial.row = replace(trial.row, dataset=event.dataset, dataset_fallback=event.fallback)
        step.transaction.put_trial(trial.row)

    def _noticed(self, step: Step, trial: LiveTrial, run: RunRow, event: Notice) -> None:
        step.transaction.add_notice(self._experiment_id, event.trial_id, event.message)

    def _progress(self, step: Step, trial: LiveTrial, run: RunRow, event: ProgressReported) -> None:
        self.note_progress(trial, event)
        self._validations.check_length(step, trial, event)
        step.transaction.put_trial(trial.row)

    def _metrics(self, step: Step, trial: LiveTrial, run: RunRow, event: MetricsReported) -> None:
        trial.reported = True
        trial.row = bookkeeping.with_progress(trial.row, event)
        trial.run = replace(run, batches=event.batches)
        step.transaction.add_metrics(self._experiment_id, bookkeeping.metric_row(event, step.transaction.time))
        self._validations.check_length(step, trial, event)
        step.transaction.put_trial(trial.row)

    def _histograms(self, step: Step, trial: LiveTrial, run: RunRow, event: HistogramsReported) -> None:
        row = bookkeeping.histogram_row(event, step.transaction.time)
        step.transaction.add_histograms(self._experiment_id, row)

    def _validated(self, step: Step, trial: LiveTrial, run: RunRow, event: ValidationCompleted) -> None:
        trial.reported = True
        row = bookkeeping.with_progress(trial.row, event)
        row = bookkeeping.with_validation(row, self._goal, event.batches, event.metrics)
        trial.row = bookkeeping.with_checkpoints(row, trial.checkpoints)
        trial.run = replace(run, batches=event.batches)
        step.transaction.add_metrics(self._experiment_id, bookkeeping.metric_row(event, step.transaction.time))
        self._validations.take(step, trial, event)
        self._validations.check_length(step, trial, event)
        step.transaction.put_trial(trial.row)

    def _tested(self, step: Step, trial: LiveTrial, run: RunRow, event: TrialTested) -> None:
        step.transaction.add_metrics(self._experiment_id, bookkeeping.metric_row(event, step.transaction.time))
        trial.row = bookkeeping.with_test(trial.row, event)
        step.transaction.put_trial(trial.row)

    def _saved(self, step: Step, trial: LiveTrial, run: RunRow, event: CheckpointSaved) -> None:
        trial.reported = True
        trial.checkpoints.append((event.checkpoint.batches, event.checkpoint.uuid))
        trial.checkpoints.sort(key=lambda entry: entry[0])
        row = trial.row
        if event.checkpoint.batches >= row.batches:  # it is written while training goes on
            row = bookkeeping.with_progress(row, event.checkpoint)
        trial.row = bookkeeping.with_checkpoints(row, trial.checkpoints)
        step.transaction.put_checkpoint(bookkeeping.checkpoint_row(self._experiment_id, event, step.transaction.time))
        step.transaction.put_trial(trial.row)
        self._decisions.saved(step, trial)
        self._keeper.saved(step.transaction, event.trial_id, event.checkpoint)

    def _rejected(self, step: Step, trial: LiveTrial, run: RunRow, event: CheckpointRejected) -> None:
        trial.checkpoints = [entry for entry in trial.checkpoints if entry[1] != event.uuid]
        trial.row = bookkeeping.with_checkpoints(trial.row, trial.checkpoints)
        self._keeper.lost(event.uuid)
        step.transaction.set_checkpoint_state(event.uuid, "DAMAGED")
        step.transaction.put_trial(trial.row)
        self.notice(step, trial, f"the checkpoint {event.uuid} is damaged and was not used: {event.reason}")

    def _held(self, step: Step, trial: LiveTrial, run: RunRow, event: TrialHeld) -> None:
        step.then(trial.answer)

    def _exited(self, step: Step, trial: LiveTrial, run: RunRow, event: TrialExited) -> None:
        trial.reported = True
        self._put_run(step, trial, replace(with_exit(run, event), batches=max(event.batches, run.batches)))

    def _gone(self, step: Step, trial: LiveTrial, run: RunRow, event: WorkersExited) -> None:
        self.ends.close(step, trial, run, event.exit_codes, event.reason)

    def _put_run(self, step: Step, trial: LiveTrial, run: RunRow) -> None:
        trial.run = run
        step.transaction.put_run(self._experiment_id, run)

    _APPLY: ClassVar[dict[type[Event], Callable[..., None]]] = {
        WorkersLaunched: _launched,
        TrialStarted: _started,
        DatasetChosen: _dataset,
        Notice: _noticed,
        ProgressReported: _progress,
        MetricsReported: _metrics,
        ValidationCompleted: _validated,
        TrialTested: _tested,
        HistogramsReported: _histograms,
        CheckpointSaved: _saved,
        CheckpointRejected: _rejected,
        TrialHeld: _held,
        TrialExited: _exited,
        WorkersExited: _gone,
    }
