"""One rank before it becomes its command: it takes its pipes, and sees to it that its family ends with it."""

from __future__ import annotations

import ctypes
import os
import select
import shlex
import signal
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

from mnist_trials.config.launch_layer import LAUNCH_LAYER
from mnist_trials.launch.output import greeting
from mnist_trials.plugin.processes import end_group

_PR_SET_PDEATHSIG: Final = 1
_CANNOT_RUN: Final = 127
_KEEP: Final = "keep"
_TAKE: Final = "take"


def arguments(launcher: int, addresses: Sequence[Sequence[str]], to_files: bool, command: Sequence[str]) -> list[str]:
    """What to give this interpreter to run `command` as a rank under process `launcher`.

    `addresses`: the files for output and errors of each local rank. With `to_files` the output goes elsewhere already.
    """
    streams = [":".join(pair) for pair in addresses]
    return ["-P", "-m", __name__, str(launcher), _KEEP if to_files else _TAKE, ",".join(streams), *command]


def main(words: Sequence[str]) -> NoReturn:
    """Become the command."""
    launcher, how, streams, *command = words
    end_with(int(launcher))
    local_rank = int(os.environ["LOCAL_RANK"])
    pipes = [os.open(path, os.O_WRONLY) for path in streams.split(",")[local_rank].split(":")]
    hello = greeting(local_rank, int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), os.getpid())
    watch_family(int(launcher))
    for pipe, descriptor in zip(pipes, (1, 2), strict=True):
        os.write(pipe, hello)
        if how == _TAKE:
            os.dup2(pipe, descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them for itself
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)  # noqa: S606 - the user's own command
    except OSError as error:
        print(f"{LAUNCH_LAYER}: '{shlex.join(command)}' cannot be run: {error.strerror}.", file=sys.stderr)
        os._exit(_CANNOT_RUN)


def end_with(launcher: int) -> None:
    """Have the kernel kill this process when the launcher's thread that started it ends."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != launcher:  # it has ended before
        os._exit(1)


def watch_family(launcher: int) -> None:
    """Start a process that ends this session as soon as this process or the launcher has ended.

    It is nobody's child, so that a command that waits for all its children does not wait for it. It holds the pipes of
    this rank, so that the launcher sees when all is over.
    """
    me = os.getpid()
    ends = [os.pidfd_open(pid) for pid in (me, launcher)]
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # for good, in the watching process
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for descriptor in ends:
            os.close(descriptor)
        return
    if os.fork():
        os._exit(0)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    poll = select.poll()
    for descriptor in ends:
        poll.register(descriptor, select.POLLIN)
    poll.poll()
    end_group(me)


if __name__ == "__main__":
    main(sys.argv[1:])
