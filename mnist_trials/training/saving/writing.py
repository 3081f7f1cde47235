"""Writes one checkpoint, in a thread of rank 0, while training goes on."""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Sequence
from threading import Event, Thread
from typing import Final, final

from mnist_trials.checkpoint import Gathering, Snapshot, write_snapshot
from mnist_trials.clock import Clock
from mnist_trials.errors import CheckpointError
from mnist_trials.plugin import CheckpointStorage
from mnist_trials.records import CheckpointInfo

_LONGEST: Final = 120.0
"""Seconds after which no new try begins: a storage that tries again itself needs fewer of ours."""

_FULL: Final = tuple(os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT))


@final
class Writing:
    """One checkpoint on its way to its storage, in a thread of its own.

    Attributes:
        news: there is something to tell: a failure, or that it is over.
        failures: of tries after which another is made; not told yet.
        info, error: what came of it; set before `wait` returns True.
    """

    def __init__(
        self,
        storage: CheckpointStorage,
        uuid: str,
        snapshot: Snapshot,
        gathering: Gathering,
        clock: Clock,
        pauses: Sequence[float],
    ) -> None:
        self.news = False
        self.failures: deque[str] = deque()
        self.info: CheckpointInfo | None = None
        self.error: BaseException | None = None
        self._storage = storage
        self._uuid = uuid
        self._snapshot = snapshot
        self._gathering = gathering
        self._now = clock.monotonic
        self._pauses = pauses
        self._given_up = Event()
        self._over = Event()
        Thread(target=self._run, name="save-checkpoint", daemon=True).start()

    def wait(self, seconds: float) -> bool:
        """Whether it is over, within `seconds`."""
        return self._over.wait(seconds)

    def give_up(self) -> None:
        """Let the try that is under way be the last."""
        self._given_up.set()

    def _run(self) -> None:
        try:
            self.info = self._try_all()
        except BaseException as error:  # raised again in the thread that trains
            self.error = error
        finally:
            self._gathering.end()  # before the other ranks hear of it: none of their threads outlives the save
            self._over.set()
            self.news = True

    def _try_all(self) -> CheckpointInfo:
        began = self._now()
        for number, pause in enumerate(self._pauses, 1):
            try:
                return self._try(number)
            except CheckpointError as error:
                last = self._now() - began + pause > _LONGEST or self._given_up.is_set()
                if last or _disk_is_full(error):
                    raise
                self._tell_failure(number, pause, error)
                if self._given_up.wait(pause):
                    raise
        return self._try(len(self._pauses) + 1)

    def _try(self, number: int) -> CheckpointInfo:
        if number > 1:
            self._storage.delete(self._uuid)  # a try may have failed in a way that kept it from clearing up
        return write_snapshot(self._storage, self._uuid, self._snapshot, self._gathering)

    def _tell_failure(self, number: int, pause: float, error: CheckpointError) -> None:
        self.failures.append(
            f"Saving after {self._snapshot.manifest.batches:,} batches has failed (try {number} of at most "
            f"{len(self._pauses) + 1}); training goes on, the next try is in {pause:g} s. {error}"
        )
        self.news = True


def _disk_is_full(error: CheckpointError) -> bool:
    """Whether a person must make room; the controller, which pauses the experiment then, judges by the same words."""
    return any(words in str(error) for words in _FULL)
