"""Process groups that can be named for good, found whole, and ended. Linux only: it reads /proc and uses pidfds.

A launcher starts every worker as the leader of a session and process group of its own, so that whatever the worker
starts can be found by the leader's number. A process that makes itself the leader of a new session (`setsid`, a
daemon) leaves the group and is not found here.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import final

from mnist_trials.records import ProcessIdentity

_GONE = frozenset("ZXx")


@final
@dataclass(frozen=True, slots=True)
class ProcessStat:
    """A process as /proc/PID/stat tells it (`man 5 proc_pid_stat`)."""

    pid: int
    state: str
    group: int
    session: int
    threads: int
    start_time: str  # in the kernel's ticks since boot

    @property
    def alive(self) -> bool:
        """Whether it still runs. A zombie does not, unless only its first thread has ended."""
        return self.state not in _GONE or self.threads > 1


def read_stat(pid: int) -> ProcessStat | None:
    """What the kernel says of process `pid`; None where there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in parentheses may hold spaces and parentheses itself: what follows the last one is plain.
    values = text.rpartition(")")[2].split()
    return ProcessStat(pid, values[0], int(values[2]), int(values[3]), int(values[17]), values[19])


def boot_id() -> str:
    """Names this boot and this process namespace: within it a pid and a start time are enough."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot} {os.readlink('/proc/self/ns/pid')}"


def identify(pid: int) -> ProcessIdentity:
    """The lasting identity of the process group that process `pid` leads.

    Raises:
        ProcessLookupError: there is no such process.
    """
    stat = read_stat(pid)
    if stat is None:
        raise ProcessLookupError(f"no process {pid}")
    return ProcessIdentity(pid=pid, start_time=stat.start_time, boot_id=boot_id())


def group_members(leader: int) -> list[int]:
    """The living processes of the group or session that `leader` leads or led, in no particular order."""
    stats = (read_stat(int(name)) for name in os.listdir("/proc") if name.isdecimal())
    return [stat.pid for stat in stats if stat is not None and stat.alive and leader in (stat.group, stat.session)]


def kill_group(leader: int) -> list[int]:
    """Send SIGKILL to every member of the group and session of `leader`; returns whom it went to.

    Only for a leader that is known to be meant: a child not yet waited for, or one checked by `same_group`.
    """
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)
    members = group_members(leader)
    for pid in members:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    return members


def end_group(group: int) -> None:
    """SIGKILL everything in process group and session `group`, and last this process, which is a member of it."""
    me = os.getpid()
    for pid in group_members(group):
        if pid != me:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)  # takes along what they started meanwhile
    os.kill(me, signal.SIGKILL)


def same_group(identity: ProcessIdentity) -> bool:
    """Whether the number in `identity` still stands for that very group.

    The kernel gives a number out again only when no process, group or session bears it. So a leader with another start
    time means that all of the old group is gone; with no leader, whoever still bears the number is a leftover.
    """
    if identity.boot_id != boot_id():
        return False
    leader = read_stat(identity.pid)
    return leader is None or leader.start_time == identity.start_time


def reap(identity: ProcessIdentity, timeout: float = 10.0) -> bool:
    """Kill what is left of a process group, if it still is that group, and wait until it is gone.

    For processes that are not children of this one, such as those of a controller that died. Other processes, and
    those of an earlier boot, are never touched.

    Returns:
        Whether nothing of the group is alive any more; False after `timeout` seconds (a process stuck in the kernel).
    """
    deadline = time.monotonic() + timeout
    while same_group(identity):
        members = kill_group(identity.pid)
        if not members:
            return True
        if not _wait_for(members, deadline):
            return False
    return True


def _wait_for(pids: list[int], deadline: float) -> bool:
    """Wait until every process has ended, or until `deadline` on the monotonic clock."""
    for pid in pids:
        with pidfd(pid) as descriptor:
            if descriptor is None:
                continue
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                return False
    return True


@contextmanager
def pidfd(pid: int) -> Iterator[int | None]:
    """A descriptor that becomes readable when process `pid` ends; None where it is gone already."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)
