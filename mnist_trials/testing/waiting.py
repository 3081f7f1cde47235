"""Waiting for what another process or thread does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

DEADLINE: Final = 60.0
"""Seconds that anything may take; only a failing test waits so long."""

_PAUSE: Final = 0.01  # keeps a busy machine free; nothing relies on it


def wait_until(condition: Callable[[], object], seconds: float = DEADLINE) -> None:
    """Return as soon as `condition` is true.

    Raises:
        AssertionError: it was not within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"it did not happen within {seconds:g} s"
        time.sleep(_PAUSE)
