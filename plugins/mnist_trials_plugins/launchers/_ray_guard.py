"""Ends what another process started when that one ends, however it ends.

Ray kills the processes that its own had started, but not what these have started, and some of its daemons outlive the
one that started them by a minute. All that a guard ends bears a variable with its mark, or descends from somebody who
does. The guard itself is nobody's child, or Ray would end it first. As a program this is
`python _ray_guard.py VARIABLE=MARK`, with a pipe as its standard input that ends with the other process; it imports the
standard library alone.
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

    def look(self) -> None:
        """Have it remember who is there now, for those that it cannot find by the mark when their parents are gone."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b".")
        self._process.stdin.flush()
        self._process.stdout.read(1)

    def release(self) -> None:
        """Have everything ended now; returns when it is."""
        self._process.communicate()


Process = tuple[int, str]
"""A number and a start time, by which it is not taken for another that has the number later."""


def family(mark: bytes) -> set[Process]:
    """The living processes that were started with `mark` in their environment, and all that descend from them.

    A process that gives itself a title, as some of Ray's do, has no environment to be read any more.
    """
    found: set[Process] = set()
    children: dict[int, list[Process]] = {}
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError):  # it has ended, or is somebody else's
            process, parent = _read(int(name))
            children.setdefault(parent, []).append(process)
            if mark in Path("/proc", name, "environ").read_bytes().split(b"\0"):
                found.add(process)
    pending = list(found)
    while pending:
        pending += (new := set(children.get(pending.pop()[0], ())) - found)
        found |= new
    return found


def _read(pid: int) -> tuple[Process, int]:
    """A process and its parent's number.

    Raises:
        OSError: it is no more, or a zombie.
    """
    values = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    if values[0] in "ZX":
        raise ProcessLookupError
    return (pid, values[19]), int(values[1])


def _lives(process: Process) -> bool:
    try:
        return _read(process[0])[0] == process
    except OSError:
        return False


def main(mark: str) -> None:
    """Leave a process that looks around at every byte of standard input, and kills at its end until nobody is left."""
    if os.fork():
        return
    known: set[Process] = set()
    while os.read(sys.stdin.fileno(), 1):
        known |= family(mark.encode())
        os.write(sys.stdout.fileno(), b".")
    while left := {process for process in known | family(mark.encode()) if _lives(process)}:
        known |= left
        for pid, _ in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_AGAIN_SECONDS)


if __name__ == "__main__":
    main(sys.argv[1])
