"""Time as an argument: monotonic seconds for durations, wall time for display only."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import final

from typing_extensions import override


class Clock(ABC):
    """Tells the time."""

    @abstractmethod
    def monotonic(self) -> float:
        """Seconds from an arbitrary start, never going back."""

    @abstractmethod
    def wall(self) -> float:
        """Seconds since 1970-01-01 UTC; for display, never for order."""


@final
class SystemClock(Clock):
    """The machine's own clock."""

    @override
    def monotonic(self) -> float:
        return time.monotonic()

    @override
    def wall(self) -> float:
        return time.time()
