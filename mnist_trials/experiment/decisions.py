"""Has the searcher asked, has its answers carried out, and writes both down."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Any, final

from mnist_trials.config import ExperimentConfig
from mnist_trials.errors import PluginError
from mnist_trials.experiment.effects import Effects
from mnist_trials.experiment.followers import Followers
from mnist_trials.experiment.ledger import Step
from mnist_trials.experiment.live import LiveTrial
from mnist_trials.experiment.search import Search
from mnist_trials.experiment.trials import Trials
from mnist_trials.experiment.wording import Question, to_store
from mnist_trials.records import ErrorInfo, TrialState


@final
class Decisions:
    """Between the searcher and the trials. Every change goes into the step at hand."""

    def __init__(
        self, experiment_id: int, config: ExperimentConfig, search: Search, trials: Trials, followers: Followers
    ) -> None:
        self._experiment_id = experiment_id
        self._search = search
        self._trials = trials
        self._questions: deque[Question] = deque()
        self._effects = Effects(experiment_id, config, search, trials, followers, self._questions)
        self.closed = False  # the experiment is being ended by a person: nobody is asked any more

    def begin(self, step: Step) -> None:
        """Have the first trials made, unless that was done already."""
        if not self._search.begun:
            self._consult(step, Question(event="initial_trials"))

    def validated(self, step: Step, trial: LiveTrial, batches: int, units: int, metric: float | None) -> None:
        """Tell of a validation.

        It is not told if an earlier run of the trial has told of it already, or of a trial that is stopped or paused.
        """
        row = trial.row
        if batches <= row.judged_batches or row.stop_requested or row.resting:
            return
        trial.row = replace(row, judged_batches=batches)
        trial.judged_units = max(units, trial.judged_units)
        self._consult(
            step,
            Question(event="validation_completed", trial_id=row.trial_id, units=trial.judged_units, metric=metric),
        )

    def saved(self, step: Step, trial: LiveTrial) -> None:
        """The trial has a new checkpoint."""
        self._effects.bequeath(step, trial.row.trial_id)

    def end(self, step: Step, trial: LiveTrial, state: TrialState, message: str, error: ErrorInfo | None) -> None:
        """The trial has ended of itself, or a person ended it: `state` COMPLETED or CANCELED."""
        if state is TrialState.COMPLETED:
            self._questions.append(Question(event="trial_exited", trial_id=trial.row.trial_id))
        self._effects.close(step, trial, state, message, error)
        self._consult(step)

    def stop(self, step: Step, trial: LiveTrial) -> None:
        """The trial has ended as the searcher wanted."""
        if not trial.row.resting:
            self._questions.append(Question(event="trial_exited", trial_id=trial.row.trial_id))
        self._effects.close_stopped(step, trial)
        self._consult(step)

    def fail(self, step: Step, trial: LiveTrial, reason: str, message: str, error: ErrorInfo | None) -> None:
        """The trial has failed for good; `reason` is "error" or "invalid_hp"."""
        self._questions.append(Question(event="trial_failed", trial_id=trial.row.trial_id, reason=reason))
        self._effects.close(step, trial, TrialState.ERROR, message, error)
        self._consult(step)

    def give_up_waiting(self, step: Step) -> None:
        """Nothing runs or can start any more: trials that wait for the weights of one that rests will never start."""
        self._effects.disinherit(step, self._trials.all_heirs(), "rests")
        self._consult(step)

    def _consult(self, step: Step, *questions: Question) -> None:
        self._questions.extend(questions)
        while self._questions and not self.closed:
            self._answer(step, self._questions.popleft())
        self._questions.clear()

    def _answer(self, step: Step, question: Question) -> None:
        actions = self._search.ask(question)
        taken = [to_store(action, self._effects.carry_out(step, action)) for action in actions]
        if self._search.shut_down:
            self._effects.end_resting(step)
        self._search.decided(self._store(step, question, taken))
        step.searched = True

    def _store(self, step: Step, question: Question, taken: list[dict[str, Any]]) -> int:
        try:
            return step.transaction.add_decision(
                self._experiment_id,
                question.trial_id,
                question.event,
                taken,
                units=question.units,
                metric=question.metric,
                reason=question.reason,
            )
        except (TypeError, ValueError) as error:
            raise PluginError(
                f"The searcher '{self._search.name}' gave a reason that is no strict JSON: {error}."
            ) from error
