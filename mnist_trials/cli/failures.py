"""How each kind of failure is told, and the exit status it gives."""

from __future__ import annotations

import os
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mnist_trials import __version__
from mnist_trials.cli.command import PROGRAM
from mnist_trials.cli.screen import Screen
from mnist_trials.errors import ConfigError, MnistTrialsError
from mnist_trials.records import ErrorInfo

DEBUG = "MNIST_TRIALS_DEBUG"
"""The variable that, set to 1, shows the traceback of any error on stderr."""

INTERRUPTED = 130


def tell(error: MnistTrialsError, screen: Screen) -> int:
    """An error raised on purpose: its own text."""
    document: dict[str, Any] = {"error": str(error), "type": type(error).__name__}
    if isinstance(error, ConfigError):
        document["problems"] = error.problems
        for problem in error.problems:
            screen.warn(str(problem))
        screen.warn(f"{PROGRAM}: error: {count_of(error)}; nothing was started")
    else:
        screen.warn(f"{PROGRAM}: error: {error}")
    if _debugging():
        traceback.print_exception(error)
    return _end(document, screen, error.exit_status)


def tell_interrupt(screen: Screen) -> int:
    """Ctrl-C in a command that has nothing to save."""
    screen.warn(f"{PROGRAM}: interrupted")
    return _end({"error": "interrupted", "type": "KeyboardInterrupt"}, screen, INTERRUPTED)


def tell_trial(error: ErrorInfo, what: str, screen: Screen, status: int) -> int:
    """An exception of the user's own code: `what` failed, and the traceback last."""
    screen.warn(f"{PROGRAM}: error: {what}: {error.type}: {error.message}")
    shown = error.traceback.rstrip()
    kind, _, message = shown.partition(": ")
    said = "\n" not in kind and message == error.message  # of an error that has no line: it is the sentence above
    if shown and not said:
        screen.warn(shown)
    return _end({"error": error.message, "type": error.type, "traceback": error.traceback}, screen, status)


def tell_bug(error: Exception, arguments: Sequence[str], screen: Screen, home: Path) -> int:
    """An error nobody foresaw: short on screen, the traceback in a file (or on screen with MNIST_TRIALS_DEBUG=1)."""
    what = f"{type(error).__name__}: {error}".rstrip(": ")
    screen.warn(f"{PROGRAM}: error: {what}")
    if _debugging():
        traceback.print_exception(error)
    else:
        path = _keep(error, arguments, home)
        screen.warn(f"This is a mistake in mnist-trials, not in what you gave it. Please report it with {path}")
    return _end({"error": what, "type": "bug"}, screen, 1)


def count_of(error: ConfigError) -> str:
    """`1 mistake in the config`."""
    count = len(error.problems)
    return f"{count} mistake{'' if count == 1 else 's'} in the config"


def _end(document: dict[str, Any], screen: Screen, status: int) -> int:
    if screen.json and not screen.documented:
        screen.document({**document, "exit_status": status})
    return status


def _debugging() -> bool:
    return os.environ.get(DEBUG) == "1"


def _keep(error: Exception, arguments: Sequence[str], home: Path) -> Path:
    text = "\n".join(
        [
            f"mnist-trials {__version__}, Python {sys.version}",
            f"arguments: {list(arguments)}",
            "".join(traceback.format_exception(error)),
        ]
    )
    name = f"error-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    folder = home / "errors"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / name
        path.write_text(text)
    except OSError:  # the home may be what is broken
        path = Path(tempfile.mkdtemp(prefix="mnist-trials-")) / name
        path.write_text(text)
    return path
