"""Writes checkpoints beside training: what was copied is gathered and stored by threads while training goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, final

from mnist_trials.checkpoint import Parts, Snapshot
from mnist_trials.clock import Clock
from mnist_trials.errors import CheckpointError
from mnist_trials.records import CheckpointInfo
from mnist_trials.training.context import TrialContext
from mnist_trials.training.saving.serving import Serving
from mnist_trials.training.saving.writing import Writing

PAUSES: tuple[float, ...] = (2.0, 8.0, 25.0, 75.0)
"""Seconds between the tries of a save."""

_TICK_SECONDS: Final = 1.0
"""So often all ranks show, while they wait for a save, that they are still there."""

_LAST_SECONDS: Final = 30.0
"""So long may a save take that is under way when an error ends training."""


@final
class Saver:
    """At most one save is under way; rank 0 writes it, with the parts that the other ranks give it.

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
        self._write: Writing | None = None  # on rank 0
        self._serving: Serving | None = None  # on the others
        self._line = context.execution.ranks.line

    @property
    def news(self) -> bool:
        """Whether `look` has something to tell, as far as this rank knows; asked after every batch."""
        return self._write is not None and self._write.news

    def begin(self, uuid: str, held: Snapshot | Parts) -> None:
        """Begin to write the checkpoint `uuid` of what the ranks hold: a snapshot on rank 0, parts on the others.

        No other save is under way.
        """
        assert not self._under_way
        self._under_way = True
        if isinstance(held, Snapshot):
            gathering = held.gathering(self._line)
            self._write = Writing(self._context.storage, uuid, held, gathering, self._clock, self._pauses)
        elif held.list:
            assert self._line is not None
            self._serving = Serving(held, self._line)

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
        own = (write.info, write.error and _Failure.of(write.error)) if write is not None and over else None
        word = self._context.execution.ranks.share(own)
        if word is None:
            return
        self._under_way, self._write = False, None
        self._end_serving()
        info, failure = word
        if info is None:
            raise failure.again() if write is None or write.error is None else write.error
        self._told(info)

    def _end_serving(self) -> None:
        """Rank 0 has said that it needs this rank no more, before it said anything else."""
        serving, self._serving = self._serving, None
        if serving is not None:
            serving.wait(None)
            if serving.error is not None:
                raise serving.error

    def _tell_failures(self, write: Writing) -> None:
        write.news = False
        while write.failures:
            self._context.notice(write.failures.popleft())

    def finish_alone(self) -> CheckpointInfo | None:
        """After an error: give the save that is under way some time, and no further try. The other ranks may be gone.

        Returns what has become durable and was not told; a save that has not is told in a notice.
        """
        write, serving = self._write, self._serving
        self._write = self._serving = None
        if write is not None:
            write.give_up()
        if (under_way := write or serving) is None:
            return None
        deadline = self._clock.monotonic() + _LAST_SECONDS
        while not (over := under_way.wait(_TICK_SECONDS)) and self._clock.monotonic() < deadline:
            self._context.beat()
        if not over and self._line is not None:
            self._line.close()  # a thread that waits for other ranks ends by this
        if write is None:
            return None
        self._tell_failures(write)
        if write.info is None:
            why = f"failed: {write.error}" if over else f"was not stored within {_LAST_SECONDS:g} s"
            self._context.notice(f"An error ends training. The save that was under way then {why}")
        return write.info


@final
@dataclass(frozen=True, slots=True)
class _Failure:
    """An error of rank 0, for the others to raise."""

    text: str
    lost: bool  # it may only say that another rank is gone, and is no CheckpointError then

    @classmethod
    def of(cls, error: BaseException) -> _Failure:
        return cls(str(error), isinstance(error, RuntimeError))

    def again(self) -> Exception:
        return RuntimeError(self.text) if self.lost else CheckpointError(self.text)
