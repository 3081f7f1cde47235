"""An exception as the record and the trial's log show it: the user's own traceback, nothing of ours before it."""

from __future__ import annotations

import sys
import traceback
from bdb import BdbQuit
from pathlib import Path

from mnist_trials.errors import DataError, MnistTrialsError, TrialError, UsageError
from mnist_trials.records import ErrorInfo

_PACKAGE = str(Path(__file__).parent.parent) + "/"
_USERS = _PACKAGE + "mnist/"  # the bundled trials are written as a user's are
_MACHINERY = ("<frozen importlib", "<frozen runpy>", str(Path(traceback.__file__).parent / "importlib") + "/")

_LONGEST_MESSAGE = 4_000  # characters
_LONGEST_TRACEBACK = 40_000

# Trying again from the checkpoint cannot end otherwise, or somebody wanted it to end.
_FINAL = (TrialError, UsageError, DataError, ImportError, SyntaxError, BdbQuit, SystemExit, KeyboardInterrupt)


def describe(error: BaseException, batches: int) -> ErrorInfo:
    """The record of `error`, raised after `batches` of training."""
    return ErrorInfo(
        type=type(error).__name__,
        message=_shortened(_message(error), _LONGEST_MESSAGE),
        traceback=_shortened(format_traceback(error), _LONGEST_TRACEBACK),
        batches=batches,
        retryable=not isinstance(error, _FINAL),
    )


def show(error: BaseException) -> None:
    """Print `error`'s traceback as the last thing of the output."""
    sys.stdout.flush()
    print(format_traceback(error), end="", file=sys.stderr, flush=True)


def format_traceback(error: BaseException) -> str:
    """`error` as Python prints it, without our frames above the user's own.

    Errors that we raise on purpose are shown without our frames at all: their text says what to do.
    """
    shown = traceback.TracebackException.from_exception(error)
    _trim(shown, error)
    return _writable("".join(shown.format()))


def _message(error: BaseException) -> str:
    match error:
        case KeyboardInterrupt():
            return "interrupted"
        case SystemExit():
            return f"the trial called sys.exit({error.code!r})"
        case BdbQuit():
            return "the debugger was left"
        case _:
            return _text(error)


def _text(error: BaseException) -> str:
    """What `error` says, in characters that a store and a terminal can hold."""
    try:
        return _writable(str(error))
    except Exception:  # its __str__ is the user's own
        return "<its text cannot be had: __str__ raises>"


def _shortened(text: str, longest: int) -> str:
    """`text` without its middle where it is too long for a record; the log has all of it."""
    if len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[:half]} ... ({len(text) - 2 * half:,} characters left out) ... {text[-half:]}"


def _writable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _trim(shown: traceback.TracebackException, error: BaseException) -> None:
    on_purpose = isinstance(error, MnistTrialsError)
    frames = list(shown.stack)
    while frames and _is_ours(frames[0]):
        del frames[0]
    if on_purpose:
        while frames and frames[-1].filename.startswith(_PACKAGE):
            del frames[-1]
    if frames or on_purpose:
        shown.stack[:] = frames
    if shown.__cause__ is not None and error.__cause__ is not None:
        _trim(shown.__cause__, error.__cause__)
    if shown.__context__ is not None and error.__context__ is not None:
        _trim(shown.__context__, error.__context__)


def _is_ours(frame: traceback.FrameSummary) -> bool:
    name = frame.filename
    return name.startswith(_MACHINERY) or (name.startswith(_PACKAGE) and not name.startswith(_USERS))
