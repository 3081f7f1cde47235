"""Why a run could not be started, in words that both launchers use."""

from __future__ import annotations

KILLED_BEFORE = "killed before it was started"


def not_started(rank: int, error: Exception) -> str:
    """The reason to give when rank `rank` could not be started because of `error`."""
    return f"rank {rank} could not be started: {explain(error)}"


def explain(error: Exception) -> str:
    """`error` in one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror + (f": {error.filename}" if error.filename else "")
    return f"{type(error).__name__}: {error}"
