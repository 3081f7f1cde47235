"""A bound on the bytes of an experiment's checkpoints: which are given up when it is exceeded.

First those that were not validated, the oldest first; then the others, the worst first and of equals the later one. So
the best of all goes last.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import final

from mnist_trials.checkpoint.retention import SavedCheckpoint

_Entry = tuple[tuple[float, float, int], SavedCheckpoint]


@final
class ByteBudget:
    """Adds up the bytes of checkpoints. What it is asked costs a logarithm of how many there are."""

    def __init__(self, limit: int | None, *, smaller_is_better: bool) -> None:
        """`limit` None: no bound."""
        self._limit = limit
        self._sign = 1 if smaller_is_better else -1
        self._bytes: dict[str, int] = {}
        self._order: list[_Entry] = []  # a heap of those that are there, and of some that were
        self._spared: dict[int, list[_Entry]] = {}  # by trial: taken from the heap and needed then
        self.total = 0

    @property
    def exceeded(self) -> bool:
        """Whether there are more bytes than the limit allows."""
        return self._limit is not None and self.total > self._limit

    def add(self, checkpoint: SavedCheckpoint, size: int) -> None:
        """Take a checkpoint of `size` bytes into account."""
        if self._limit is None:
            return
        self._bytes[checkpoint.uuid] = size
        self.total += size
        heappush(self._order, (self._worth(checkpoint), checkpoint))

    def remove(self, uuid: str) -> None:
        """A checkpoint is there no more; one that was never added is no error."""
        self.total -= self._bytes.pop(uuid, 0)

    def trial_changed(self, trial_id: int) -> None:
        """The trial may need less than before."""
        for entry in self._spared.pop(trial_id, ()):
            heappush(self._order, entry)

    def excess(self, needed: Callable[[SavedCheckpoint], bool]) -> list[SavedCheckpoint]:
        """What is to be given up so that the limit is kept, as far as what is needed allows; it counts no more."""
        given_up: list[SavedCheckpoint] = []
        while self.exceeded and self._order:
            entry = heappop(self._order)
            checkpoint = entry[1]
            if checkpoint.uuid not in self._bytes:
                continue
            if needed(checkpoint):
                self._spared.setdefault(checkpoint.trial_id, []).append(entry)
            else:
                self.remove(checkpoint.uuid)
                given_up.append(checkpoint)
        return given_up

    def _worth(self, checkpoint: SavedCheckpoint) -> tuple[float, float, int]:
        if checkpoint.metric is None:
            return (0, 0.0, checkpoint.number)
        return (1, -self._sign * checkpoint.metric, -checkpoint.number)
