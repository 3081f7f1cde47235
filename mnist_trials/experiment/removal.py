"""Deleting checkpoints that were given up, beside everything else: a storage that is down stalls nobody."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from itertools import count
from typing import final

from mnist_trials.plugin import CheckpointStorage
from mnist_trials.testing.faults import fault_point

_FIRST_PAUSE_SECONDS = 0.5  # before what failed is tried again; doubled each time
_LONGEST_PAUSE_SECONDS = 60.0
_LOOK_SECONDS = 0.02


@final
class Remover:
    """Deletes checkpoints in a thread of its own. `close` it; what is not deleted by then is left."""

    def __init__(self, storage: CheckpointStorage, is_read: Callable[[str], bool]) -> None:
        """`is_read`: whether somebody reads a checkpoint at this moment, which is then waited for."""
        self._storage = storage
        self._is_read = is_read
        self._numbers = count()
        self._due: list[tuple[float, int, int, str]] = []  # a heap: when, a number, tries so far, which
        self._pending: set[str] = set()
        self._removed: list[str] = []
        self._changed = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None
        self.cause = ""  # why the last attempt that failed did

    def put(self, uuids: Iterable[str]) -> None:
        """Have checkpoints deleted, soon; one that is not there is no error."""
        with self._changed:
            for uuid in uuids:
                if uuid not in self._pending:
                    self._pending.add(uuid)
                    heappush(self._due, (time.monotonic(), next(self._numbers), 0, uuid))
            if self._pending and self._thread is None:
                self._thread = threading.Thread(target=self._work, name="checkpoint-remover", daemon=True)
                self._thread.start()
            self._changed.notify()

    def removed(self) -> list[str]:
        """Those that are deleted by now, each told once."""
        if not self._removed:
            return []
        with self._changed:
            told, self._removed = self._removed, []
        return told

    @property
    def pending(self) -> int:
        """How many are left."""
        return len(self._pending)

    def drain(self, seconds: float, cut_short: Callable[[], bool] = lambda: False) -> None:
        """Wait until all are deleted; at most until none was for `seconds`, or `cut_short` says so."""
        left, since = self.pending, time.monotonic()
        while self.pending and not cut_short() and time.monotonic() - since < seconds:
            if self.pending < left:
                left, since = self.pending, time.monotonic()
            with self._changed:
                self._changed.wait(_LOOK_SECONDS)

    def close(self) -> None:
        """Begin nothing more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _work(self) -> None:
        while (item := self._next()) is not None:
            tries, uuid = item
            if cause := self._remove(uuid):
                pause = min(_FIRST_PAUSE_SECONDS * 2.0**tries, _LONGEST_PAUSE_SECONDS)
                with self._changed:
                    self.cause = cause
                    heappush(self._due, (time.monotonic() + pause, next(self._numbers), min(tries + 1, 16), uuid))
                continue
            with self._changed:
                self._pending.discard(uuid)
                self._removed.append(uuid)
                self._changed.notify_all()

    def _next(self) -> tuple[int, str] | None:
        with self._changed:
            while not self._closed:
                wait = self._due[0][0] - time.monotonic() if self._due else None
                if wait is not None and wait <= 0:
                    return heappop(self._due)[2:]
                self._changed.wait(wait)
        return None

    def _remove(self, uuid: str) -> str:
        """Delete one; returns why that failed, empty if it did not."""
        try:
            if self._is_read(uuid):
                return "somebody reads it at the moment"
            fault_point("retention.before_delete")
            self._storage.delete(uuid)
            fault_point("retention.after_delete")
        except Exception as error:  # whatever a storage raises, it may pass
            return str(error) or type(error).__name__
        return ""
