"""Work on checkpoints beside everything else: a storage that is down stalls nobody."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from itertools import count
from typing import Generic, TypeVar, final

T = TypeVar("T")

_FIRST_PAUSE_SECONDS = 0.5  # before what failed is tried again; doubled each time
_LONGEST_PAUSE_SECONDS = 60.0
_LOOK_SECONDS = 0.02


@final
class Errands(Generic[T]):
    """Does one and the same for many checkpoints, in a thread of its own, for each until it succeeds. `close` it."""

    def __init__(self, name: str, do: Callable[[str], T]) -> None:
        """`do` is given an id; whatever it raises may pass, so that it is tried again. `name` is the thread's."""
        self._name = name
        self._do = do
        self._numbers = count()
        self._due: list[tuple[float, int, int, str]] = []  # a heap: when, a number, tries so far, which
        self._pending: set[str] = set()
        self._done: list[tuple[str, T]] = []
        self._changed = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None
        self.cause = ""  # why the last attempt that failed did

    def put(self, uuids: Iterable[str]) -> None:
        """Have it done for these, soon; one that is waiting already is no error."""
        with self._changed:
            for uuid in uuids:
                if uuid not in self._pending:
                    self._pending.add(uuid)
                    heappush(self._due, (time.monotonic(), next(self._numbers), 0, uuid))
            if self._pending and self._thread is None:
                self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                self._thread.start()
            self._changed.notify()

    def done(self) -> list[tuple[str, T]]:
        """For which it is done by now, and what `do` returned; each told once."""
        if not self._done:
            return []
        with self._changed:
            told, self._done = self._done, []
        return told

    @property
    def pending(self) -> int:
        """How many are left."""
        return len(self._pending)

    def drain(self, seconds: float, cut_short: Callable[[], bool] = lambda: False) -> None:
        """Wait until all are done; at most until none was for `seconds`, or `cut_short` says so."""
        left, since = self.pending, time.monotonic()
        while self.pending and not cut_short() and time.monotonic() - since < seconds:
            if self.pending < left:
                left, since = self.pending, time.monotonic()
            with self._changed:
                self._changed.wait(_LOOK_SECONDS)

    def close(self) -> None:
        """Begin nothing more; what is not done by now is left."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _work(self) -> None:
        while (item := self._next()) is not None:
            tries, uuid = item
            try:
                result = self._do(uuid)
            except Exception as error:  # whatever a storage raises, it may pass
                self._put_off(uuid, tries, str(error) or type(error).__name__)
                continue
            with self._changed:
                self._pending.discard(uuid)
                self._done.append((uuid, result))
                self._changed.notify_all()

    def _put_off(self, uuid: str, tries: int, cause: str) -> None:
        pause = min(_FIRST_PAUSE_SECONDS * 2.0**tries, _LONGEST_PAUSE_SECONDS)
        with self._changed:
            self.cause = cause
            heappush(self._due, (time.monotonic() + pause, next(self._numbers), min(tries + 1, 16), uuid))

    def _next(self) -> tuple[int, str] | None:
        with self._changed:
            while not self._closed:
                wait = self._due[0][0] - time.monotonic() if self._due else None
                if wait is not None and wait <= 0:
                    return heappop(self._due)[2:]
                self._changed.wait(wait)
        return None
