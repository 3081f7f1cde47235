"""A clock for tests."""

from __future__ import annotations

from typing import final

from typing_extensions import override

from mnist_trials.clock import Clock


@final
class HandClock(Clock):
    """Shows the `now` that it is set to."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    @override
    def monotonic(self) -> float:
        return self.now

    @override
    def wall(self) -> float:
        return self.now
