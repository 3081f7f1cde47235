"""What the end of a run changes: in the store, in the trial, and in the search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import final

from mnist_trials.experiment.decisions import Decisions
from mnist_trials.experiment.effects import RESTING
from mnist_trials.experiment.ledger import Step
from mnist_trials.experiment.live import LiveTrial
from mnist_trials.experiment.trials import Trials
from mnist_trials.experiment.verdict import End, RunEnd, Verdict, judge
from mnist_trials.records import ErrorInfo, Outcome, TrialState
from mnist_trials.store.rows import RunRow


@final
class RunEnds:
    """Closes runs, and does with their trials what the verdict says."""

    def __init__(
        self,
        experiment_id: int,
        trials: Trials,
        decisions: Decisions,
        say: Callable[[Step, LiveTrial, str], None],
        *,
        command: bool,
        max_restarts: int,
    ) -> None:
        """`command`: the entrypoint is one. `say` tells a person of a trial."""
        self._experiment_id = experiment_id
        self._trials = trials
        self._decisions = decisions
        self._say = say
        self._command = command
        self._max_restarts = max_restarts
        self.held = ""  # why nothing can go on until a person has done something

    def close_lost(self, step: Step) -> None:
        """Close the runs whose controller died: as their workers ended them, where that is stored, else as lost."""
        open_runs = [(trial, trial.run) for trial in self._trials.running.values() if trial.run is not None]
        for trial, run in open_runs:
            if not _is_ended(trial, run):
                self._end_run(step, trial, run)
                self._put_off(step, trial)
                self._say(step, trial, f"run {run.run} was lost with its controller; {_goes_on(trial)}")
        # These last: the searcher is told, and what it answers may be about any trial.
        for trial, run in open_runs:
            if trial.run is not None:
                self.close(step, trial, run, (), None)

    def close(
        self, step: Step, trial: LiveTrial, run: RunRow, exit_codes: tuple[int | None, ...], reason: str | None
    ) -> None:
        """Every process of `run` is gone; `exit_codes` and `reason` as in `WorkersExited`."""
        stopped = Outcome.STOPPED if trial.row.stop_requested else None
        end = RunEnd(
            outcome=run.outcome,
            error=run.error,
            exit_codes=exit_codes,
            reason=reason,
            started=bool(run.backend),
            batches=run.batches,
            command=self._command,
            reported=trial.reported,
            asked=trial.asked or stopped,
        )
        verdict = judge(
            end, previous=trial.previous_error, restarts=trial.row.restarts, max_restarts=self._max_restarts
        )
        failed_afterwards = run.outcome is Outcome.COMPLETED and verdict.error is not None
        outcome = Outcome.FAILED if failed_afterwards else run.outcome
        error = verdict.error or run.error
        self._end_run(step, trial, replace(run, exit_codes=exit_codes, outcome=outcome, error=error))
        if verdict.end in (End.COMPLETED, End.STOPPED) and (error := verdict.error) is not None:
            self._say(
                step, trial, f"failed at batch {error.batches} when it was to end ({error.type}: {error.message})"
            )
        self._carry_out(step, trial, verdict)

    def _end_run(self, step: Step, trial: LiveTrial, run: RunRow) -> None:
        step.transaction.put_run(self._experiment_id, replace(run, ended=step.transaction.time))
        step.transaction.release(self._experiment_id, run.trial_id)
        trial.previous_error = run.error
        trial.run, trial.handle, trial.slots, trial.asked, trial.reported = None, None, (), None, False
        trial.holds_at, trial.notices = None, {}

    def _carry_out(self, step: Step, trial: LiveTrial, verdict: Verdict) -> None:
        decisions, error, message = self._decisions, verdict.error, verdict.message
        match verdict.end:
            case End.COMPLETED:
                decisions.end(step, trial, TrialState.COMPLETED, message, None)
            case End.STOPPED:
                decisions.stop(step, trial)
            case End.PAUSED if trial.row.stop_requested:  # it was asked for the one, then for the other
                decisions.stop(step, trial)
            case End.PAUSED:
                self._put_off(step, trial)
            case End.CANCELED:
                decisions.end(step, trial, TrialState.CANCELED, message, error)
            case End.INVALID_HP:
                decisions.fail(step, trial, "invalid_hp", message, error)
            case End.ERROR:
                decisions.fail(step, trial, "error", message, error)
            case End.HELD:
                self._hold(step, trial, message, error)
            case End.RESTART:
                trial.row = replace(trial.row, restarts=trial.row.restarts + 1, error=error)
                self._put_off(step, trial)
                count = f"restart {trial.row.restarts} of at most {self._max_restarts}"
                self._say(step, trial, f"failed at batch {_at(error)} ({message}); {_goes_on(trial)} ({count})")

    def _put_off(self, step: Step, trial: LiveTrial) -> None:
        """It goes on later: when the searcher says so, or as soon as there are slots."""
        state, message = (TrialState.PAUSED, RESTING) if trial.at_rest else (TrialState.QUEUED, "")
        trial.row = replace(trial.row, state=state, message=message)
        step.transaction.put_trial(trial.row)
        self._trials.place(trial)

    def _hold(self, step: Step, trial: LiveTrial, message: str, error: ErrorInfo | None) -> None:
        self.held = message
        trial.row = replace(trial.row, state=TrialState.PAUSED, message=message, error=error)
        step.transaction.put_trial(trial.row)
        self._trials.place(trial)
        self._say(step, trial, f"{message.rstrip('.')}; the experiment is paused: activated again, {_goes_on(trial)}")


def _is_ended(trial: LiveTrial, run: RunRow) -> bool:
    return run.outcome is not None or trial.row.stop_requested


def _goes_on(trial: LiveTrial) -> str:
    if trial.at_rest:
        return "it stays paused by the searcher"
    if not trial.checkpoints:
        return "it starts from the beginning"
    return f"it goes on from batch {trial.checkpoints[-1][0]}"


def _at(error: ErrorInfo | None) -> str:
    return "?" if error is None else str(error.batches)
