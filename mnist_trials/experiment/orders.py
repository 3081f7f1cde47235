"""What people ask of an experiment that runs: pause, activate, cancel, kill."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from functools import partial
from typing import final

from mnist_trials.experiment.decisions import Decisions
from mnist_trials.experiment.ledger import Step
from mnist_trials.experiment.live import LiveTrial
from mnist_trials.experiment.trials import Trials
from mnist_trials.records import ExperimentState, Outcome, TrialState


@final
class Ending(Enum):
    """How a person wants an experiment to end, for now or for good."""

    PAUSE = "pause"
    CANCEL = "cancel"
    KILL = "kill"


@final
class Orders:
    """Carries out what people ask for. `ending` is what was asked for last; None: go on."""

    def __init__(self, experiment_id: int, trials: Trials, decisions: Decisions) -> None:
        self._experiment_id = experiment_id
        self._trials = trials
        self._decisions = decisions
        self.ending: Ending | None = None

    def pause(self, step: Step) -> None:
        """Have every trial saved and end its run."""
        if self.ending is None:
            self.ending = Ending.PAUSE
            self._ask_all(step, Outcome.PAUSED, "paused by a person")

    def activate(self, step: Step) -> None:
        """Go on: take a pause back, or begin after one."""
        self.ending = None
        for trial in self._trials.live.values():
            self._unpause(step, trial)

    def end(self, step: Step, ending: Ending) -> None:
        """Cancel (every trial is saved) or kill."""
        if self.ending is Ending.KILL:
            return
        self.ending = ending
        self._decisions.closed = True
        step.transaction.update_experiment(self._experiment_id, state=ExperimentState.STOPPING)
        for trial in tuple(self._trials.live.values()):
            if not trial.running:
                self._decisions.end(step, trial, TrialState.CANCELED, "", None)
        if ending is Ending.KILL:
            step.then(lambda: self.kill_all(Outcome.CANCELED))
        else:
            self._ask_all(step, Outcome.CANCELED, "cancelled by a person")

    def kill_all(self, outcome: Outcome) -> None:
        """End all workers at once."""
        for trial in self._trials.running.values():
            trial.kill(outcome)

    def kill_by_signal(self) -> None:
        """End all workers at once because a person would not wait; what was to become of them stays."""
        self.ending = self.ending or Ending.PAUSE
        self.kill_all(Outcome.PAUSED if self.ending is Ending.PAUSE else Outcome.CANCELED)

    def _ask_all(self, step: Step, outcome: Outcome, reason: str) -> None:
        for trial in self._trials.running.values():
            step.then(partial(trial.ask, outcome, reason))

    def _unpause(self, step: Step, trial: LiveTrial) -> None:
        if trial.row.state is TrialState.PAUSED and not trial.at_rest:
            trial.row = replace(trial.row, state=TrialState.QUEUED)
            step.transaction.put_trial(trial.row)
