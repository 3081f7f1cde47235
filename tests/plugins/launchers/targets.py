"""Workers that do what no worker should; a worker process finds this module by PYTHONPATH."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from mnist_trials.events import Notice
from mnist_trials.plugin import Channel, WorkerSpec
from mnist_trials.testing.launcher_targets import finish, tell, waits


def lists_descriptors(spec: WorkerSpec, channel: Channel) -> int:
    tell(spec, channel, json.dumps({name: _link(name) for name in os.listdir("/proc/self/fd")}))
    return finish(spec, channel)


def _link(name: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{name}")
    except FileNotFoundError:  # the one that listed them
        return ""


def talks_nonsense(spec: WorkerSpec, channel: Channel) -> int:
    tell(spec, channel, "before")
    os.write(int(sys.argv[2]), b'not JSON\n{"type": "Unheard"}\n\xff\xfe\n')
    return finish(spec, channel)


def dies_within_a_line(spec: WorkerSpec, channel: Channel) -> int:
    tell(spec, channel, "before")
    os.write(int(sys.argv[2]), b'{"type": "TrialExi')
    os.kill(os.getpid(), 9)
    return 0


def closes_its_output(spec: WorkerSpec, channel: Channel) -> int:
    os.write(1, b"last words")
    for descriptor in (1, 2):
        os.close(descriptor)
    return waits(spec, channel)


def prints_bytes(spec: WorkerSpec, channel: Channel) -> int:
    for piece in (b"\xff\xfe", b"\0 half a line", b" and the rest\n", b"\xf0\x9f", b"\x99\x82\r\n", b"end"):
        os.write(1, piece)
    return finish(spec, channel)


def leaves_a_daemon(spec: WorkerSpec, channel: Channel) -> int:
    """A child that left the session and holds every pipe open."""
    descriptors = (int(sys.argv[2]), int(sys.argv[3]))
    child = subprocess.Popen(["sleep", "600"], start_new_session=True, pass_fds=descriptors)
    tell(spec, channel, str(child.pid))
    return finish(spec, channel)


def waits_with_a_family(spec: WorkerSpec, channel: Channel) -> int:
    """Write the pids of itself and of two children to a file, and wait."""
    children = [subprocess.Popen(["sleep", "600"], process_group=group).pid for group in (None, 0)]
    _tell_file(spec, [os.getpid(), *children])
    return waits(spec, channel)


def never_returns_to_python(spec: WorkerSpec, channel: Channel) -> int:
    """Nothing but the thread that listens runs."""
    _tell_file(spec, [os.getpid()])
    sys.stdin.read()
    while True:
        os.waitid(os.P_PID, subprocess.Popen(["sleep", "600"]).pid, os.WEXITED)


def tells_interfaces(spec: WorkerSpec, channel: Channel) -> int:
    tell(spec, channel, f"{os.environ['GLOO_SOCKET_IFNAME']} {os.environ['NCCL_SOCKET_IFNAME']}")
    return finish(spec, channel)


def emits_from_threads(spec: WorkerSpec, channel: Channel) -> int:
    from threading import Thread

    def emit(name: str) -> None:
        for number in range(200):
            channel.emit(Notice(trial_id=spec.trial_id, run=spec.run, message=f"{name}{number}".ljust(10_000, ".")))

    threads = [Thread(target=emit, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return finish(spec, channel)


def _tell_file(spec: WorkerSpec, pids: list[int]) -> None:
    path = Path(spec.trial_dir, "pids")
    path.with_suffix(".new").write_text(json.dumps(pids))
    path.with_suffix(".new").rename(path)
