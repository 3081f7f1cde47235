"""What the end of a run means for its trial: a pure function of what is known of the run."""

from __future__ import annotations

import errno
import os
import signal
from dataclasses import dataclass
from enum import Enum
from typing import final

from mnist_trials.experiment.ranks import is_consequence
from mnist_trials.records import ErrorInfo, Outcome

# Sent by people, schedulers and the kernel's out-of-memory killer: they say nothing about what the trial did.
_FROM_OUTSIDE = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}

_MEMORY = " (out of memory, perhaps)"

# Words of the system that stand in the message of whoever ran into a full disk: a checkpoint, a library, the launcher.
_DISK_FULL = tuple(os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT))


@final
class End(Enum):
    """What becomes of the trial."""

    COMPLETED = "completed"
    STOPPED = "stopped"  # completed, but early, by the searcher's decision
    PAUSED = "paused"
    CANCELED = "canceled"
    INVALID_HP = "invalid_hp"
    RESTART = "restart"
    HELD = "held"  # a full disk: no fault of the trial, which goes on when a person has made room
    ERROR = "error"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnd:
    """All that is known of a run when every process of it is gone."""

    outcome: Outcome | None  # the worker's own word, if it had time for one
    error: ErrorInfo | None
    exit_codes: tuple[int | None, ...]  # by rank
    reason: str | None  # from the launcher, when it could not start the processes, or lost them
    started: bool  # it came to training
    batches: int  # as far as is known
    command: bool  # the entrypoint is a command, not a Trial class
    reported: bool  # the worker sent something about training
    asked: Outcome | None  # what the controller had asked for: STOPPED, PAUSED, CANCELED, COMPLETED


@final
@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of the trial, and why."""

    end: End
    error: ErrorInfo | None = None
    message: str = ""


_BY_OUTCOME = {
    Outcome.COMPLETED: End.COMPLETED,
    Outcome.STOPPED: End.STOPPED,
    Outcome.PAUSED: End.PAUSED,
    Outcome.CANCELED: End.CANCELED,
}
_WHEN_ASKED = {
    Outcome.STOPPED: End.STOPPED,
    Outcome.CANCELED: End.CANCELED,
    Outcome.COMPLETED: End.COMPLETED,
}


def judge(run: RunEnd, *, previous: ErrorInfo | None, restarts: int, max_restarts: int) -> Verdict:
    """What becomes of a trial after `run`; `previous` is the error of the run before it."""
    if run.outcome in _BY_OUTCOME and not _failed_afterwards(run):
        return Verdict(_BY_OUTCOME[run.outcome])
    if run.outcome is Outcome.INVALID_HP:
        why = run.error.message if run.error else "no reason given"
        return Verdict(End.INVALID_HP, run.error, f"its hyperparameters make no sense: {why}")
    if run.asked in _WHEN_ASKED:
        return Verdict(_WHEN_ASKED[run.asked], run.error)
    if run.asked is Outcome.PAUSED and run.error is None:
        return Verdict(End.PAUSED)
    if run.error is None and _clean(run) and run.command and run.reported:
        return Verdict(End.COMPLETED)
    told = None if run.reason is not None and is_consequence(run.error) else run.error
    return _failure(run, told or _died(run), previous, restarts, max_restarts)


def _failure(run: RunEnd, error: ErrorInfo, previous: ErrorInfo | None, restarts: int, max_restarts: int) -> Verdict:
    what = f"{error.type}: {error.message}"
    if any(words in error.message for words in _DISK_FULL):
        return Verdict(End.HELD, error, what)
    if not error.retryable:
        return Verdict(End.ERROR, error, what)
    if not _from_outside(run) and _same(error, previous):
        return Verdict(End.ERROR, error, f"{what} (twice at batch {error.batches}: not tried again)")
    if restarts >= max_restarts:
        tried = f" ({restarts} restarts, as many as max_restarts allows)" if restarts else ""
        return Verdict(End.ERROR, error, f"{what}{tried}")
    return Verdict(End.RESTART, error, what)


def _same(error: ErrorInfo, previous: ErrorInfo | None) -> bool:
    return previous is not None and (error.type, error.message, error.batches) == (
        previous.type,
        previous.message,
        previous.batches,
    )


def _failed_afterwards(run: RunEnd) -> bool:
    """Whether a command has failed after its training was complete."""
    return run.command and run.outcome is Outcome.COMPLETED and run.reason is None and any(run.exit_codes)


def _clean(run: RunEnd) -> bool:
    return run.reason is None and all(code == 0 for code in run.exit_codes)


def _from_outside(run: RunEnd) -> bool:
    if run.reason is not None:
        return run.started  # a machine was lost
    return run.error is None and any(code is not None and -code in _FROM_OUTSIDE for _, code in _causes(run))


def _causes(run: RunEnd) -> list[tuple[int, int | None]]:
    """The ranks that ended in a bad way, with their exit codes; without those that were killed because of them."""
    bad = [(rank, code) for rank, code in enumerate(run.exit_codes) if code != 0]
    return [(rank, code) for rank, code in bad if code != -signal.SIGKILL] or bad


def _died(run: RunEnd) -> ErrorInfo:
    """The error of a run whose worker said none itself."""
    if run.reason is not None:
        return _error("WorkersLost" if run.started else "WorkersNotStarted", run.reason, run.batches)
    if not _clean(run):
        after = "its training was complete, then " if run.outcome is Outcome.COMPLETED else ""
        return _error("WorkerDied", f"{after}{_deaths(_causes(run)) or 'its end was not seen'}", run.batches)
    if run.command:
        text = (
            "the command ended with status 0 but reported nothing: it must open its context with "
            "`with mnist_trials.init() as context:` and train with `Trainer(trial, context).fit()`"
        )
        return _error("NothingReported", text, run.batches, retryable=False)
    text = "the process ended with status 0 in the middle of training; does something in the trial call sys.exit()?"
    return _error("WorkerDied", text, run.batches)


def _deaths(causes: list[tuple[int, int | None]]) -> str:
    if len(causes) > 1 and all(code == -signal.SIGKILL for _, code in causes):
        ranks = ", ".join(str(rank) for rank, _ in causes)
        return f"one of the ranks {ranks} was ended by SIGKILL{_MEMORY}, and the others because of it"
    return "; ".join(_death(rank, code) for rank, code in causes)


def _death(rank: int, code: int | None) -> str:
    if code is None:
        return f"rank {rank} ended, how is not known"
    if code > 0:
        return f"rank {rank} ended with status {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"rank {rank} was ended by {name}{_MEMORY if name == 'SIGKILL' else ''}"


def _error(kind: str, message: str, batches: int, *, retryable: bool = True) -> ErrorInfo:
    return ErrorInfo(type=kind, message=message, traceback="", batches=batches, retryable=retryable)
