"""One thread that waits on behalf of every process of a launcher: pipes that have bytes, processes that end."""

from __future__ import annotations

import os
import selectors
import sys
import traceback
from collections import deque
from collections.abc import Callable
from threading import Lock, Thread
from typing import final

CHUNK = 65_536

Callback = Callable[[], None]


@final
class Pump:
    """Calls back, on its own thread, when a descriptor becomes readable.

    `watch`, `ignore` and `forget` are for the callbacks themselves; `call` is for every thread. The thread is a
    daemon: workers end with the process that holds their pipes, so there is nothing for it to finish. What a callback
    raises is printed and goes no further, for others rely on the thread too.
    """

    def __init__(self) -> None:
        self._calls: deque[Callback] = deque()
        self._lock = Lock()
        self._thread: Thread | None = None  # made by the first call, with the descriptors
        self._open = True

    def call(self, callback: Callback) -> None:
        """Have `callback` called on the pump's thread, soon."""
        with self._lock:
            if self._thread is None:
                self._begin()
        self._calls.append(callback)
        self._wake()

    def watch(self, descriptor: int, callback: Callback) -> None:
        """Call `callback` whenever `descriptor` is readable or at its end."""
        self._selector.register(descriptor, selectors.EVENT_READ, callback)

    def ignore(self, descriptor: int) -> None:
        """No longer watch `descriptor`; no effect where it is not watched."""
        if descriptor in self._selector.get_map():
            self._selector.unregister(descriptor)

    def forget(self, descriptor: int) -> None:
        """No longer watch `descriptor`, and close it."""
        self.ignore(descriptor)
        os.close(descriptor)

    def close(self) -> None:
        """Stop the thread."""
        self._open = False
        if self._thread is None:
            return
        self._wake()
        self._thread.join()
        self._selector.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _begin(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._selector.register(self._wake_read, selectors.EVENT_READ, self._run_calls)
        self._thread = Thread(target=self._loop, name="launcher-pump", daemon=True)
        self._thread.start()

    def _wake(self) -> None:
        try:
            os.write(self._wake_write, b"\0")
        except BlockingIOError:  # full of wake-ups already
            return

    def _run_calls(self) -> None:
        os.read(self._wake_read, CHUNK)
        while self._calls:
            _call(self._calls.popleft())

    def _loop(self) -> None:
        while self._open:
            for key, _ in self._selector.select():
                # What an earlier callback of this round closed is not to be called any more.
                if self._selector.get_map().get(key.fd) is key:
                    _call(key.data)


def _call(callback: Callback) -> None:
    try:
        callback()
    except Exception:
        print("A launcher's callback failed; the launcher goes on.", file=sys.stderr)
        traceback.print_exc()
