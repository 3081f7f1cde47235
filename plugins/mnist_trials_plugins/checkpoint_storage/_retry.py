"""Trying again what a remote file system could not do, with growing pauses and within a bound."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar, final

from mnist_trials.clock import Clock, SystemClock
from mnist_trials_plugins.checkpoint_storage._failures import Failure, failure_of

T = TypeVar("T")

_log = logging.getLogger(__name__)

# Of its own: a trial's random numbers must not depend on how often a storage was tried.
_jitter = random.Random()  # noqa: S311


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How often, and for how long, to try again; `clock` and `wait` are arguments so that no test need sleep."""

    seconds: float = 60.0  # of failing, over all the steps of one operation
    first_pause: float = 0.5  # seconds
    longest_pause: float = 10.0  # seconds
    clock: Clock = field(default_factory=SystemClock)
    wait: Callable[[float], object] = time.sleep

    def start(self) -> Attempts:
        """The attempts of one operation."""
        return Attempts(self)


ONE_MINUTE: Final = Retry()
"""What the storages do unless told otherwise."""


@final
class Attempts:
    """The attempts of one operation, whose steps share one budget of seconds."""

    def __init__(self, retry: Retry) -> None:
        self._retry = retry
        self._left = retry.seconds
        self.tried = 0
        """How often the latest step was tried."""
        self.failing = 0.0
        """For how many seconds the latest step has been failing."""

    def do(self, step: Callable[[], T]) -> T:
        """What `step` returns, tried again while it fails in a way that may pass and the budget lasts.

        Raises:
            Exception: what `step` raised last.
        """
        pause = self._retry.first_pause
        since: float | None = None
        self.tried, self.failing = 0, 0.0
        while True:
            self.tried += 1
            try:
                value = step()
            except Exception as error:
                now = self._retry.clock.monotonic()
                since = now if since is None else since
                self.failing = now - since
                if failure_of(error) is not Failure.TRANSIENT or self.failing + pause > self._left:
                    raise
                if self.tried == 1:  # the text of the error might hold a secret; its type does not
                    _log.warning("a checkpoint storage does not answer (%s); trying again", type(error).__name__)
                # Many trials that were cut off at once should not come back at once.
                self._retry.wait(pause * _jitter.uniform(0.5, 1.0))
                pause = min(2 * pause, self._retry.longest_pause)
            else:
                if since is not None:
                    self._left -= self._retry.clock.monotonic() - since
                return value
