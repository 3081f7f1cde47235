"""Ends what another process started when that one ends, however it ends.

Ray kills the processes that its own had started, but not what these have started, and some of its daemons outlive the
one that started them by a minute. All that a guard ends bears a variable with its mark: it is found by that. The guard
itself is nobody's child, or Ray would end it first. As a program this is `python _ray_guard.py VARIABLE=MARK`, with a
pipe as its standard input that ends with the other process; it imports the standard library alone.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import final

_AGAIN_SECONDS = 0.05


@final
class Guard:
    """A guard of what is started with `variables` in its environment. It is there when this returns.

    Raises:
        OSError: it could not be started.
    """

    def __init__(self, variable: str) -> None:
        mark = os.urandom(16).hex()
        self.variables = {variable: mark}
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and file
            [sys.executable, "-I", "-S", __file__, f"{variable}={mark}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._process.wait()  # what was started has left another in its place

    def release(self) -> None:
        """Have everything ended now; returns when it is."""
        self._process.communicate()


def bearers(mark: bytes) -> list[int]:
    """The living processes, but this one, that were started with `mark` in their environment."""
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError):  # it has ended, or is somebody else's
            # A zombie has no environment any more.
            if mark in Path("/proc", name, "environ").read_bytes().split(b"\0") and int(name) != os.getpid():
                found.append(int(name))
    return found


def main(mark: str) -> None:
    """Leave a process that waits for the end of standard input, and then kills until nobody is left."""
    if os.fork():
        return
    sys.stdin.buffer.read()
    while left := bearers(mark.encode()):
        for pid in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_AGAIN_SECONDS)


if __name__ == "__main__":
    main(sys.argv[1])
