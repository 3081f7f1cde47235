"""What an action of the searcher changes: in the store, in the trials, and, once that is durable, at the workers."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import assert_never, final

from mnist_trials.config import ExperimentConfig, trial_seed
from mnist_trials.errors import PluginError
from mnist_trials.experiment.followers import Followers
from mnist_trials.experiment.ledger import Step
from mnist_trials.experiment.live import LiveTrial
from mnist_trials.experiment.measure import Measure
from mnist_trials.experiment.search import Search
from mnist_trials.experiment.trials import Trials
from mnist_trials.experiment.wording import Question
from mnist_trials.plugin.searcher import Action, Create, Pause, Resume, Shutdown, Stop
from mnist_trials.records import ErrorInfo, TrialState
from mnist_trials.store.rows import TrialRow

RESTING = "paused by the searcher"


@final
class Effects:
    """Carries out actions. `aftermath` takes what the searcher is to be told because of them."""

    def __init__(
        self,
        experiment_id: int,
        config: ExperimentConfig,
        search: Search,
        trials: Trials,
        followers: Followers,
        aftermath: deque[Question],
    ) -> None:
        self._experiment_id = experiment_id
        self._seed = config.experiment_seed
        self._can_hold = not Measure(config).by_time
        self._search = search
        self._trials = trials
        self._followers = followers
        self._aftermath = aftermath

    def carry_out(self, step: Step, action: Action) -> int | None:
        """Carry out `action`; returns the trial it is about.

        Raises:
            PluginError: the searcher must not do that as things are.
        """
        match action:
            case Create():
                return self._create(step, action)
            case Stop():
                self._stop(step, action)
            case Pause():
                self._pause(step, action)
            case Resume():
                self._resume(step, action)
            case Shutdown():
                self._shut_down(step, action)
                return None
            case _:
                assert_never(action)
        return action.trial_id

    def end_resting(self, step: Step) -> None:
        """End the trials that are paused: the search is over for them, and the searcher is not told."""
        for trial in tuple(self._trials.resting.values()):
            if not trial.running:
                self.close_stopped(step, trial)
            elif not trial.row.stop_requested:
                self._request_stop(step, trial)

    def close_stopped(self, step: Step, trial: LiveTrial) -> None:
        """The trial has ended because the searcher stopped it, or shut down while it was paused."""
        message = "the search ended while it was paused" if trial.row.resting else "stopped by the searcher"
        trial.row = replace(trial.row, stopped_early=True)
        self.close(step, trial, TrialState.COMPLETED, message, None)

    def close(self, step: Step, trial: LiveTrial, state: TrialState, message: str, error: ErrorInfo | None) -> None:
        """The trial has ended for good: `state` COMPLETED, CANCELED or ERROR."""
        trial.row = replace(trial.row, state=state, message=message, error=error, resting=False)
        step.transaction.put_trial(trial.row)
        self._trials.remove(trial, state)
        if state is not TrialState.CANCELED:
            self.disinherit(step, self._trials.heirs(trial.row.trial_id), "ended")

    def bequeath(self, step: Step, source: int) -> None:
        """Trial `source` has a new checkpoint: let those start that waited for it."""
        for heir in self._trials.heirs(source):
            self._inherit(step, heir)
            self._trials.place(heir)

    def disinherit(self, step: Step, heirs: list[LiveTrial], what: str) -> None:
        """Trials that wait for weights which will never come fail; `what` became of their source."""
        for heir in heirs:
            message = (
                f"it was to start with the weights of trial {heir.row.source_trial} after {heir.row.source_batches} "
                f"batches, which {what} without a checkpoint from there on"
            )
            self.close(step, heir, TrialState.ERROR, message, None)
            self._aftermath.append(Question(event="trial_failed", trial_id=heir.row.trial_id, reason="error"))

    def _create(self, step: Step, action: Create) -> int:
        if self._search.shut_down:
            raise self._misuse("create a trial", "after it has shut down")
        trial_id = self._trials.created + 1
        row = TrialRow(
            experiment_id=self._experiment_id,
            trial_id=trial_id,
            state=TrialState.QUEUED,
            hparams=self._search.hparams(action, trial_id),
            seed=trial_seed(self._seed, trial_id),
            until=action.until,
            source_trial=action.source,
            source_batches=0 if action.source is None else self._judged(step, action.source),
        )
        trial = LiveTrial(row, can_hold=self._can_hold)
        step.transaction.put_trial(trial.row)
        if action.source is not None:
            self._inherit(step, trial)
        self._trials.add(trial)
        if trial.without_source and action.source not in self._trials.live:
            self.disinherit(step, [trial], "ended")
        step.then(lambda: self._followers.trial_created(trial_id, row.hparams))
        return trial_id

    def _judged(self, step: Step, source: int) -> int:
        """The batches after which trial `source` was validated last."""
        what = f"create a trial with the weights of trial {source}"
        self._require_created(what, source)
        live = self._trials.live.get(source)
        row = live.row if live is not None else step.transaction.trial(self._experiment_id, source)
        if row.judged_batches < 0:
            raise self._misuse(what, "which has not been validated yet")
        return row.judged_batches

    def _inherit(self, step: Step, heir: LiveTrial) -> None:
        source, batches = heir.row.source_trial, heir.row.source_batches
        assert source is not None
        heir.weights = step.transaction.first_checkpoint(self._experiment_id, source, batches)

    def _stop(self, step: Step, action: Stop) -> None:
        self._require_created(f"stop trial {action.trial_id}", action.trial_id)
        trial = self._trials.live.get(action.trial_id)
        if trial is None:
            return  # it has ended by itself in the meantime
        trial.row = replace(trial.row, resting=False)
        if trial.running:
            self._request_stop(step, trial)
        else:
            self._aftermath.append(Question(event="trial_exited", trial_id=action.trial_id))
            self.close_stopped(step, trial)

    def _request_stop(self, step: Step, trial: LiveTrial) -> None:
        trial.row = replace(trial.row, stop_requested=True)
        self._put(step, trial)

    def _pause(self, step: Step, action: Pause) -> None:
        trial = self._live(f"pause trial {action.trial_id}", action.trial_id)
        if trial.row.resting:
            raise self._misuse(f"pause trial {action.trial_id}", "which is paused already")
        if trial.row.stop_requested:
            raise self._misuse(f"pause trial {action.trial_id}", "which it has stopped")
        trial.row = replace(trial.row, resting=True)
        if not trial.running:
            trial.row = replace(trial.row, state=TrialState.PAUSED, message=RESTING)
        self._put(step, trial)

    def _resume(self, step: Step, action: Resume) -> None:
        what = f"resume trial {action.trial_id}"
        trial = self._live(what, action.trial_id)
        if not trial.row.resting:
            raise self._misuse(what, "which it has not paused")
        if action.until <= trial.judged_units:
            raise self._misuse(
                f"{what} until it has {action.until} units", f"and it had {trial.judged_units} when it was last judged"
            )
        trial.row = replace(trial.row, resting=False, until=action.until)
        if not trial.running:
            trial.row = replace(trial.row, state=TrialState.QUEUED, message="")
        self._put(step, trial)

    def _shut_down(self, step: Step, action: Shutdown) -> None:
        self._search.shut_down = True
        if action.why and not self._search.why:
            self._search.why = action.why
            step.transaction.add_notice(self._experiment_id, None, f"the search has ended early: {action.why}")

    def _put(self, step: Step, trial: LiveTrial) -> None:
        step.transaction.put_trial(trial.row)
        self._trials.place(trial)
        step.then(trial.steer)  # by then the whole answer has been carried out

    def _live(self, what: str, trial_id: int) -> LiveTrial:
        self._require_created(what, trial_id)
        trial = self._trials.live.get(trial_id)
        if trial is None:
            raise self._misuse(what, "which has ended")
        return trial

    def _require_created(self, what: str, trial_id: int) -> None:
        if trial_id > self._trials.created:
            raise self._misuse(what, f"which it never created: there are {self._trials.created}")

    def _misuse(self, what: str, but: str) -> PluginError:
        return PluginError(f"The searcher '{self._search.name}' wants to {what}, {but}.")
