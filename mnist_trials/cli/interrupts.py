"""Answers Ctrl-C at once, in words; what is done about it is the controller's business."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

ANSWER = "interrupted: saving the state of every trial, then pausing (once more ends them at once, without saving)"
_HEARD = frozenset({signal.SIGINT, signal.SIGTERM})


@contextmanager
def answered(say: Callable[[str], None]) -> Iterator[None]:
    """Say ANSWER at the first SIGINT or SIGTERM, whoever handles it and however long the handler takes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    listener = threading.Thread(target=_listen, args=(ours, say), name="interrupts", daemon=True)
    listener.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        theirs.close()
        listener.join()
        ours.close()


def _listen(signals: socket.socket, say: Callable[[str], None]) -> None:
    answered_once = False
    while numbers := signals.recv(64):
        if not answered_once and not _HEARD.isdisjoint(numbers):
            answered_once = True
            say(ANSWER)
