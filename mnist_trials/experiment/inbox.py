"""Events on their way from the launcher's threads to the controller, never more than it can keep up with."""

from __future__ import annotations

import threading
from queue import Empty, SimpleQueue
from typing import final

from mnist_trials.events import Event, HistogramsReported, MetricsReported, ProgressReported
from mnist_trials.plugin import WorkerHandle

FULL = 512  # events waiting: whoever says more is not listened to for a while
_ROOMY = 128  # events waiting: all are listened to again
_CROWDED = 32  # events waiting: reports share a transaction
_TOGETHER = 64  # events in one transaction at most


def is_report(event: Event) -> bool:
    """Whether nothing is decided on `event`; such are most of all events."""
    return isinstance(event, ProgressReported | MetricsReported | HistogramsReported)


@final
class Inbox:
    """A queue for one reader, whose writers are held back while it is full.

    Holding back is a matter of launchers (`WorkerHandle.hold_events`): one that cannot do it fills the memory.
    """

    def __init__(self) -> None:
        self._queue: SimpleQueue[Event | None] = SimpleQueue()  # None: nothing but a call to wake up
        self._lock = threading.Lock()
        self._held: set[WorkerHandle] = set()

    def put(self, event: Event, handle: WorkerHandle | None) -> None:
        """Add an event that came by `handle`; from any thread, never waits."""
        self._queue.put(event)
        if handle is not None and self._queue.qsize() > FULL:
            with self._lock:
                if handle not in self._held:
                    self._held.add(handle)
                    handle.hold_events(True)

    def wake(self) -> None:
        """Have `get` return soon; from a signal's handler too."""
        self._queue.put(None)

    def get(self, timeout: float) -> list[Event]:
        """What comes next, in order; nothing after `timeout` seconds, or when woken up.

        One event at a time, so that whatever a person asks for is heard between any two. Only while many wait, reports
        are given out together, with the event that follows them.
        """
        if self._held and self._queue.qsize() <= _ROOMY:
            self._listen_again()
        try:
            events = [self._queue.get(timeout=timeout)]
            while self._queue.qsize() > _CROWDED and len(events) < _TOGETHER and _is_report_or_none(events[-1]):
                events.append(self._queue.get_nowait())
        except Empty:
            return []
        return [event for event in events if event is not None]

    def _listen_again(self) -> None:
        with self._lock:
            while self._held:
                self._held.pop().hold_events(False)


def _is_report_or_none(event: Event | None) -> bool:
    return event is None or is_report(event)
