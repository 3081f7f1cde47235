"""Writes checkpoints beside training: what was snapshotted is stored by a thread while training goes on."""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable, Sequence
from threading import Event, Thread
from typing import Final, final

from mnist_trials.checkpoint import Snapshot, write_snapshot
from mnist_trials.clock import Clock
from mnist_trials.errors import CheckpointError
from mnist_trials.plugin import CheckpointStorage
from mnist_trials.records import CheckpointInfo
from mnist_trials.training.context import TrialContext

PAUSES: tuple[float, ...] = (2.0, 8.0, 25.0, 75.0)
"""Seconds between the tries of a save."""

_LONGEST: Final = 120.0
"""Seconds after which no new try begins: a storage that tries again itself needs fewer of ours."""

_TICK_SECONDS: Final = 1.0
"""So often all ranks show, while they wait for a save, that they are still there."""

_LAST_SECONDS: Final = 30.0
"""So long may a save take that is under way when an error ends training."""

_FULL: Final = tuple(os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT))


@final
class Saver:
    """At most one save is under way; rank 0 writes it.

    Where a trial has several ranks, all of them call `begin`, `look` and `settle` at the same batch, and hear there
    what rank 0 has to say: that the checkpoint is durable, or the error that no further try will mend. A try that
    failed and is made again is told in a notice.
    """

    def __init__(
        self, context: TrialContext, clock: Clock, told: Callable[[CheckpointInfo], None], pauses: Sequence[float]
    ) -> None:
        """`told` is called, on every rank and in the thread that trains, when a checkpoint has become durable.

        After each of `pauses` (seconds) a save that has failed is tried once more.
        """
        self.waited = 0.0
        """Seconds that training has waited for saves. Whoever reports them sets it back."""
        self._context = context
        self._clock = clock
        self._told = told
        self._pauses = pauses
        self._under_way = False
        self._write: _Write | None = None  # on rank 0

    @property
    def news(self) -> bool:
        """Whether `look` has something to tell, as far as this rank knows; asked after every batch."""
        return self._write is not None and self._write.news

    def begin(self, uuid: str, snapshot: Snapshot | None) -> None:
        """Begin to write `snapshot`, which rank 0 has, as the checkpoint `uuid`. No other save is under way."""
        assert not self._under_way
        self._under_way = True
        if snapshot is not None:
            self._write = _Write(self._context.storage, uuid, snapshot, self._clock, self._pauses)

    def look(self) -> None:
        """Tell what has come of the save that is under way, if anything has. Waits for no storage.

        Raises:
            CheckpointError: it failed for good.
        """
        if self._under_way:
            self._hear(0.0)

    def settle(self) -> None:
        """Wait until no save is under way, and tell what has come of it.

        Raises:
            CheckpointError: it failed for good.
        """
        started = self._clock.monotonic()
        while self._under_way:
            self._hear(_TICK_SECONDS)
            self._context.beat()
        self.waited += self._clock.monotonic() - started

    def _hear(self, seconds: float) -> None:
        write = self._write
        over = False
        if write is not None:
            over = write.wait(seconds)
            self._tell_failures(write)
        own = (write.info, str(write.error)) if write is not None and over else None
        word = self._context.execution.ranks.share(own)
        if word is None:
            return
        self._under_way, self._write = False, None
        info, text = word
        if info is None:
            raise CheckpointError(text) if write is None or write.error is None else write.error
        self._told(info)

    def _tell_failures(self, write: _Write) -> None:
        write.news = False
        while write.failures:
            self._context.notice(write.failures.popleft())

    def finish_alone(self) -> CheckpointInfo | None:
        """After an error: give the save that is under way some time, without the other ranks, and no further try.

        Returns what has become durable and was not told; a save that has not is told in a notice.
        """
        write, self._write = self._write, None
        if write is None:
            return None
        write.give_up()
        deadline = self._clock.monotonic() + _LAST_SECONDS
        while not write.wait(_TICK_SECONDS) and self._clock.monotonic() < deadline:
            self._context.beat()
        self._tell_failures(write)
        if write.info is None:
            why = f"was not stored within {_LAST_SECONDS:g} s" if write.error is None else f"failed: {write.error}"
            self._context.notice(f"An error ends training. The save that was under way then {why}")
        return write.info


@final
class _Write:
    """One checkpoint on its way to its storage, in a thread of its own.

    Attributes:
        news: there is something to tell: a failure, or that it is over.
        failures: of tries after which another is made; not told yet.
        info, error: what came of it; set before `wait` returns True.
    """

    def __init__(
        self, storage: CheckpointStorage, uuid: str, snapshot: Snapshot, clock: Clock, pauses: Sequence[float]
    ) -> None:
        self.news = False
        self.failures: deque[str] = deque()
        self.info: CheckpointInfo | None = None
        self.error: BaseException | None = None
        self._storage = storage
        self._uuid = uuid
        self._snapshot = snapshot
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
        return write_snapshot(self._storage, self._uuid, self._snapshot)

    def _tell_failure(self, number: int, pause: float, error: CheckpointError) -> None:
        self.failures.append(
            f"Saving after {self._snapshot.manifest.batches:,} batches has failed (try {number} of at most "
            f"{len(self._pauses) + 1}); training goes on, the next try is in {pause:g} s. {error}"
        )
        self.news = True


def _disk_is_full(error: CheckpointError) -> bool:
    """Whether a person must make room; the controller, which pauses the experiment then, judges by the same words."""
    return any(words in str(error) for words in _FULL)
