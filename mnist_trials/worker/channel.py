"""A worker's line to its launcher: two pipes, one JSON document per line each way."""

from __future__ import annotations

import json
import os
from collections import deque
from threading import Condition, Lock, Thread
from typing import final

from typing_extensions import override

from mnist_trials.events import Event, GoOn, Request, StopRequest, request_from_json, to_json
from mnist_trials.plugin import Channel
from mnist_trials.plugin.processes import end_group


@final
class PipeChannel(Channel):
    """Events go out on one pipe; requests come in on the other, read by a thread of its own.

    The other side is gone when the pipe of requests ends or that of events breaks. This process is then killed with
    its group at once, also while it waits for word: nobody would ever hear of what it did. `emit` may be called from
    any thread.
    """

    def __init__(self, events: int, requests: int, group: int) -> None:
        """Take over both descriptors. `group` is the process group that the launcher made for this worker."""
        self._events = events
        self._requests = requests
        self._group = group
        self._sending = Lock()
        self._heard = Condition()
        self._request: StopRequest | None = None
        self._words: deque[GoOn] = deque()  # not waited for yet
        for descriptor in (events, requests):
            os.set_inheritable(descriptor, False)
        Thread(target=self._listen, name="controller-requests", daemon=True).start()

    @override
    def emit(self, event: Event) -> None:
        with self._sending:
            try:
                write_event(self._events, event)
            except BrokenPipeError:
                end_group(self._group)

    @override
    def stop_requested(self) -> StopRequest | None:
        return self._request

    @override
    def wait_for_word(self) -> Request:
        with self._heard:
            self._heard.wait_for(lambda: self._request is not None or self._words)
            return self._request or self._words.popleft()

    def _listen(self) -> None:
        torn_line = b""
        while data := os.read(self._requests, 65_536):
            *lines, torn_line = (torn_line + data).split(b"\n")
            for line in lines:
                self._hear(request_from_json(json.loads(line)))
        end_group(self._group)

    def _hear(self, request: Request) -> None:
        with self._heard:
            if isinstance(request, StopRequest):
                self._request = request
            else:
                self._words.append(request)
            self._heard.notify_all()


def write_event(descriptor: int, event: Event) -> None:
    """Write `event` as a line to the pipe of events.

    Raises:
        BrokenPipeError: nobody reads it any more.
    """
    line = json.dumps(to_json(event), allow_nan=False).encode() + b"\n"
    while line:
        line = line[os.write(descriptor, line) :]
