"""Has the searcher asked, carries out what it decides, and writes both down."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, assert_never, final

from mnist_trials.config import ExperimentConfig, trial_seed
from mnist_trials.errors import PluginError
from mnist_trials.events import ValidationCompleted
from mnist_trials.experiment.followers import Followers
from mnist_trials.experiment.ledger import Step
from mnist_trials.experiment.live import LiveTrial
from mnist_trials.experiment.search import Search
from mnist_trials.plugin.searcher import Action, Create, Shutdown, Stop
from mnist_trials.records import ErrorInfo, Outcome, TrialState
from mnist_trials.store.rows import TrialRow


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    event: Literal["initial_trials", "validation_completed", "trial_exited", "trial_failed"]
    trial_id: int | None = None
    units: int = 0
    metric: float | None = None
    reason: str = ""


@final
class Trials:
    """The trials of one experiment: those that have not ended by id, and how many there ever were."""

    def __init__(self, live: dict[int, LiveTrial], ended: Counter[TrialState]) -> None:
        self.live = live
        self.ended = ended
        self.created = len(live) + ended.total()


@final
class Decisions:
    """Between the searcher and the trials. Every change goes into the step at hand."""

    def __init__(
        self, experiment_id: int, config: ExperimentConfig, search: Search, trials: Trials, followers: Followers
    ) -> None:
        self._experiment_id = experiment_id
        self._config = config
        self._search = search
        self._trials = trials
        self._followers = followers
        self.closed = False  # the experiment is being ended by a person: nobody is asked any more

    def begin(self, step: Step) -> None:
        """Have the first trials made, unless that was done already."""
        if not self._search.begun:
            self._consult(step, _Question(event="initial_trials"))

    def validated(self, step: Step, trial: LiveTrial, event: ValidationCompleted, metric: float | None) -> None:
        """Tell of a validation, unless an earlier run of the trial has told of it already."""
        if event.batches <= trial.row.judged_batches or trial.row.stop_requested:
            return
        trial.row = replace(trial.row, judged_batches=event.batches)
        units = self._search.units(event)
        self._consult(
            step, _Question(event="validation_completed", trial_id=event.trial_id, units=units, metric=metric)
        )

    def end(self, step: Step, trial: LiveTrial, state: TrialState, message: str, error: ErrorInfo | None) -> None:
        """The trial has ended for good: `state` COMPLETED, CANCELED or ERROR."""
        self._close(step, trial, state, message, error)
        if state is TrialState.COMPLETED:
            self._consult(step, _Question(event="trial_exited", trial_id=trial.row.trial_id))

    def fail(self, step: Step, trial: LiveTrial, reason: str, message: str, error: ErrorInfo | None) -> None:
        """The trial has failed for good; `reason` is "error" or "invalid_hp"."""
        self._close(step, trial, TrialState.ERROR, message, error)
        self._consult(step, _Question(event="trial_failed", trial_id=trial.row.trial_id, reason=reason))

    def _close(self, step: Step, trial: LiveTrial, state: TrialState, message: str, error: ErrorInfo | None) -> None:
        trial.row = replace(trial.row, state=state, message=message, error=error)
        step.transaction.put_trial(trial.row)
        del self._trials.live[trial.row.trial_id]
        self._trials.ended[state] += 1

    def _consult(self, step: Step, first: _Question) -> None:
        questions = deque([first])
        while questions and not self.closed:
            question = questions.popleft()
            taken = [self._carry_out(step, action, questions) for action in self._ask(question)]
            validation = question.event == "validation_completed"
            step.transaction.add_decision(
                self._experiment_id,
                question.trial_id,
                question.event,
                taken,
                units=question.units if validation else None,
                metric=question.metric,
            )
            step.searched = True

    def _ask(self, question: _Question) -> Sequence[Action]:
        trial_id = question.trial_id or 0
        match question.event:
            case "initial_trials":
                return self._search.initial_trials()
            case "validation_completed":
                return self._search.validation_completed(trial_id, question.units, question.metric)
            case "trial_exited":
                return self._search.trial_exited(trial_id)
            case "trial_failed":
                return self._search.trial_failed(trial_id, question.reason)
            case _:
                assert_never(question.event)

    def _carry_out(self, step: Step, action: Action, questions: deque[_Question]) -> dict[str, Any]:
        if isinstance(action, Create):
            return {"action": "Create", "trial_id": self._create(step, action)}
        if isinstance(action, Stop):
            self._stop(step, action.trial_id, questions)
            return {"action": "Stop", "trial_id": action.trial_id}
        if isinstance(action, Shutdown):
            self._search.shut_down = True
        return {"action": type(action).__name__}

    def _create(self, step: Step, action: Create) -> int:
        self._trials.created += 1
        trial_id = self._trials.created
        row = TrialRow(
            experiment_id=self._experiment_id,
            trial_id=trial_id,
            state=TrialState.QUEUED,
            hparams=self._search.hparams(action, trial_id),
            seed=trial_seed(self._config.experiment_seed, trial_id),
            batches=0,
            epochs=0.0,
            records=0,
            total_batches=None,
            restarts=0,
            stopped_early=False,
            dataset="",
            dataset_fallback=False,
            best_metric=None,
            best_batches=None,
            best_metrics={},
            best_checkpoint=None,
            latest_checkpoint=None,
            error=None,
            message="",
        )
        self._trials.live[trial_id] = LiveTrial(row)
        step.transaction.put_trial(row)
        step.then(lambda: self._followers.trial_created(trial_id, row.hparams))
        return trial_id

    def _stop(self, step: Step, trial_id: int, questions: deque[_Question]) -> None:
        trial = self._trials.live.get(trial_id)
        if trial is None:
            if not 1 <= trial_id <= self._trials.created:
                name = self._config.searcher.name
                raise PluginError(f"The searcher '{name}' wants to stop trial {trial_id}, which it never created.")
            return  # it has ended by itself in the meantime
        trial.row = replace(trial.row, stop_requested=True)
        if trial.running:
            step.transaction.put_trial(trial.row)
            step.then(lambda: trial.ask(Outcome.STOPPED, "stopped by the searcher"))
        else:
            trial.row = replace(trial.row, stopped_early=True)
            self._close(step, trial, TrialState.COMPLETED, "stopped by the searcher", None)
            questions.append(_Question(event="trial_exited", trial_id=trial_id))
