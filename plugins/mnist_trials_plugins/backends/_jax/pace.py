"""How many batches the device is given at once: enough to keep it busy, few enough to hear of a request soon."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, final

import jax

from mnist_trials_plugins.backends._jax.compilations import Compilations

_AT_ONCE: Final = 64
"""Measured on a CPU and 2 x 128 neurons: 64 batches per call cost what the same loop written by hand does, single ones
a twentieth more; the longer the portions, the longer a request to stop waits."""

_SECONDS: Final = 0.2
"""That a portion may take."""

_AHEAD: Final = 2
"""Portions that may be under way at the same time, so that the device need not wait for Python."""


@final
class Pace:
    """Adapts the length of portions to how fast they are. What is computed does not depend on it."""

    def __init__(self) -> None:
        self._limit = 4
        self._under_way: deque[tuple[Any, int, float]] = deque()
        self._last_done = 0.0

    def portion(self, count: int) -> int:
        """How many of the next `count` batches to take."""
        return min(count, self._limit)

    @contextmanager
    def giving(self, count: int, compilations: Compilations) -> Iterator[list[Any]]:
        """The time in which a portion of `count` batches is given to the device; what it will leave goes into the list.

        Waits where too many are under way.
        """
        given, compiled = time.monotonic(), compilations.count
        left: list[Any] = []
        yield left
        self._under_way.append((left, count if compilations.count == compiled else 0, given))
        while len(self._under_way) > _AHEAD:
            self._wait_for_first()

    def _wait_for_first(self) -> None:
        values, count, given = self._under_way.popleft()
        jax.block_until_ready(values)
        now = time.monotonic()
        if count:
            each = max(1e-6, now - max(given, self._last_done)) / count
            self._limit = max(1, min(_AT_ONCE, 4 * self._limit, int(_SECONDS / each)))
        self._last_done = now
