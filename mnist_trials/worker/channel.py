"""A worker's line to its launcher: two pipes, one JSON document per line each way."""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress
from threading import Lock, Thread
from typing import Any, final

from typing_extensions import override

from mnist_trials.events import Event, StopRequest, to_json
from mnist_trials.plugin import Channel
from mnist_trials.plugin.processes import group_members
from mnist_trials.records import Outcome


@final
class PipeChannel(Channel):
    """Events go out on one pipe; requests come in on the other, read by a thread of its own.

    The other side is gone when the pipe of requests ends or that of events breaks. This process is then killed with
    its group at once: nobody would ever hear of what it did. `emit` may be called from any thread.
    """

    def __init__(self, events: int, requests: int, group: int) -> None:
        """Take over both descriptors. `group` is the process group that the launcher made for this worker."""
        self._events = events
        self._requests = requests
        self._group = group
        self._sending = Lock()
        self._request: StopRequest | None = None
        for descriptor in (events, requests):
            os.set_inheritable(descriptor, False)
        Thread(target=self._listen, name="controller-requests", daemon=True).start()

    @override
    def emit(self, event: Event) -> None:
        line = json.dumps(to_json(event), allow_nan=False).encode() + b"\n"
        with self._sending:
            try:
                while line:
                    line = line[os.write(self._events, line) :]
            except BrokenPipeError:
                end_group(self._group)

    @override
    def stop_requested(self) -> StopRequest | None:
        return self._request

    def _listen(self) -> None:
        torn_line = b""
        while data := os.read(self._requests, 65_536):
            *lines, torn_line = (torn_line + data).split(b"\n")
            for line in lines:
                document: dict[str, Any] = json.loads(line)
                self._request = StopRequest(Outcome(document["outcome"]), document["reason"])
        end_group(self._group)


def end_group(group: int) -> None:
    """SIGKILL everything in process group and session `group`, then this process."""
    me = os.getpid()
    for pid in group_members(group):
        if pid != me:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)  # takes along what they started meanwhile
    os.kill(me, signal.SIGKILL)
