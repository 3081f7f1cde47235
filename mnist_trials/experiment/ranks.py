"""What counts of all that the ranks of a trial say.

Rank 0 speaks for all. The others only say what a person must be told, and how they ended; and since most notices
and many errors are those of every rank, each is heard once.
"""

from __future__ import annotations

import re
from dataclasses import replace

from mnist_trials.events import Event, Notice, TrialExited, WorkersExited, WorkersLaunched
from mnist_trials.experiment.live import LiveTrial
from mnist_trials.records import ErrorInfo, Outcome
from mnist_trials.store.rows import RunRow

_OF_ANY_RANK = (Notice, TrialExited, WorkersLaunched, WorkersExited)
_FAILURES = (Outcome.FAILED, Outcome.INVALID_HP)

# Of torch.distributed: its own exceptions, and the RuntimeErrors of gloo and NCCL about a rank that is gone.
_LOST_TYPE = re.compile(r"Dist\w*Error")
_SPEAKERS = re.compile(r"gloo|nccl|c10d|store", re.IGNORECASE)
_LOST = re.compile(r"connection|broken pipe|timed? ?out|aborted|remote process|socket", re.IGNORECASE)


def counts(trial: LiveTrial, event: Event) -> bool:
    """Whether `event`, of the attempt of `trial` that is on, is to be heard; takes note of what was said."""
    if isinstance(event, Notice):
        return trial.notices.setdefault(event.message, event.rank) == event.rank
    return event.rank == 0 or isinstance(event, _OF_ANY_RANK)


def with_exit(run: RunRow, event: TrialExited) -> RunRow:
    """`run` with the last word of one rank: unchanged if that does not count.

    The word of rank 0 does, unless any rank has failed; of several that fail the first whose error is no consequence of
    another rank's end.
    """
    failed = event.outcome in _FAILURES
    if run.outcome in _FAILURES:
        is_cause = failed and is_consequence(run.error) and not is_consequence(event.error)
        return replace(run, outcome=event.outcome, error=event.error) if is_cause else run
    return replace(run, outcome=event.outcome, error=event.error) if failed or event.rank == 0 else run


def is_consequence(error: ErrorInfo | None) -> bool:
    """Whether `error` only says that another rank is gone."""
    if error is None:
        return False
    if _LOST_TYPE.fullmatch(error.type):
        return True
    text = error.message
    return error.type == "RuntimeError" and bool(_SPEAKERS.search(text)) and bool(_LOST.search(text))
