"""The last word of a worker: `TrialExited`."""

from __future__ import annotations

from mnist_trials.errors import InvalidHP
from mnist_trials.events import TrialExited
from mnist_trials.plugin import WorkerSpec
from mnist_trials.records import ErrorInfo, Outcome
from mnist_trials.worker.failure import describe
from mnist_trials.worker.recorder import Recorder


def tell_end(spec: WorkerSpec, recorder: Recorder, outcome: Outcome) -> None:
    """Tell that the run ended in good order."""
    _tell(spec, recorder, outcome, None)


def tell_failure(spec: WorkerSpec, recorder: Recorder, error: BaseException) -> None:
    """Tell that `error` ended the run."""
    outcome = Outcome.INVALID_HP if isinstance(error, InvalidHP) else Outcome.FAILED
    _tell(spec, recorder, outcome, describe(error, recorder.batches))


def _tell(spec: WorkerSpec, recorder: Recorder, outcome: Outcome, error: ErrorInfo | None) -> None:
    if not recorder.ended:  # a script may go on, and fail, after its trial has ended
        recorder.emit(
            TrialExited(
                trial_id=spec.trial_id,
                run=spec.run,
                rank=spec.rank,
                outcome=outcome,
                batches=recorder.batches,
                error=error,
            )
        )
