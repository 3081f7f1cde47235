"""The last word of a worker: `TrialExited`."""

from __future__ import annotations

import time
from dataclasses import replace

from mnist_trials.errors import InvalidHP
from mnist_trials.events import TrialExited
from mnist_trials.plugin import WorkerSpec
from mnist_trials.records import ErrorInfo, Outcome
from mnist_trials.worker.consequence import is_consequence
from mnist_trials.worker.failure import describe
from mnist_trials.worker.recorder import Recorder

_CAUSE_IS_TOLD = 15.0
"""Seconds in which the launcher ends this process because another rank has failed, and said why."""


def tell_end(spec: WorkerSpec, recorder: Recorder, outcome: Outcome) -> None:
    """Tell that the run ended in good order."""
    _tell(spec, recorder, outcome, None)


def await_cause(spec: WorkerSpec, error: BaseException) -> None:
    """Where another rank's end may be behind `error`, give that rank time to be heard.

    The launcher then ends this process, and its own error is neither told nor printed.
    """
    if spec.size > 1 and is_consequence(error):
        time.sleep(_CAUSE_IS_TOLD)


def tell_failure(spec: WorkerSpec, recorder: Recorder, error: BaseException) -> None:
    """Tell that `error` ended the run."""
    outcome = Outcome.INVALID_HP if isinstance(error, InvalidHP) else Outcome.FAILED
    info = describe(error, recorder.batches)
    if spec.size > 1 and is_consequence(error):
        info = replace(info, message=f"another rank has ended without a word, and this one lost it: {info.message}")
    _tell(spec, recorder, outcome, info)


def tell_error(spec: WorkerSpec, recorder: Recorder, error: ErrorInfo) -> None:
    """Tell of a failure that is no exception."""
    _tell(spec, recorder, Outcome.FAILED, error)


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
