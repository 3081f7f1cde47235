"""How a script finds the trial that it is run for, and that only one process of a trial takes its place."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import final

from mnist_trials.config.launch_layer import LAUNCH_LAYER, WORKER_VARIABLE
from mnist_trials.errors import UsageError
from mnist_trials.plugin import Channel, WorkerSpec
from mnist_trials.worker.channel import PipeChannel


@final
@dataclass(frozen=True, slots=True)
class Address:
    """Where a worker process finds its spec and its launcher."""

    spec: str
    events: int
    requests: int
    group: int  # the process group that the launcher made
    pipes: tuple[int, int]  # inode numbers: in a child process the descriptors may be other files

    @classmethod
    def of(cls, spec: Path, events: int, requests: int) -> Address:
        """The address of this process, which leads its group."""
        inodes = (os.fstat(events).st_ino, os.fstat(requests).st_ino)
        return cls(str(spec), events, requests, os.getpgrp(), inodes)

    def to_text(self) -> str:
        """As it stands in the environment."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Address:
        """The address behind `to_text`."""
        values = json.loads(text)
        return cls(**{**values, "pipes": tuple(values["pipes"])})

    def connected(self) -> bool:
        """Whether this process still has both pipes."""
        return all(map(_is_pipe, (self.events, self.requests), self.pipes))


def _is_pipe(descriptor: int, inode: int) -> bool:
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return stat.S_ISFIFO(status.st_mode) and status.st_ino == inode


@final
class Seat:
    """The place of one worker in this very process, offered by the inline launcher to the script it runs."""

    def __init__(self, spec: WorkerSpec, channel: Channel) -> None:
        self.spec = spec
        self.channel = channel
        self.taken = False
        self.leave: Callable[[BaseException | None], None] = _ignore
        """Called when the script has ended, with the exception that ended it, whether it gave the seat back or not."""


def _ignore(error: BaseException | None) -> None:
    return


_offered: list[Seat] = []


@contextmanager
def offered(spec: WorkerSpec, channel: Channel) -> Iterator[Seat]:
    """Let `take` find this worker for the time of a `with` block."""
    _offered.append(Seat(spec, channel))
    try:
        yield _offered[-1]
    finally:
        _offered.pop()


def in_experiment() -> bool:
    """Whether this process runs for a trial of an experiment (True), or is a plain script (False)."""
    return bool(_offered) or WORKER_VARIABLE in os.environ


def take() -> Seat:
    """The place of the trial that this process runs for; it can be had once.

    Raises:
        UsageError: it was taken before, here or in another process, or this process has lost the pipes.
    """
    if _offered:
        seat = _offered[-1]
        if seat.taken:
            raise UsageError(
                "The context of this trial is in use already. A Trial class is given its context by the runtime, and a "
                "script may call mt.init() once: pass the context on to where it is needed."
            )
        seat.taken = True
        return seat
    address = Address.from_text(os.environ[WORKER_VARIABLE])
    if not address.connected():
        raise UsageError(
            "This process was started by a trial's script and has no connection of its own: the context belongs to "
            "the script that calls mt.init(). Pass what is needed on to the process instead. (To run a script on every "
            f"slot of a trial, begin the entrypoint with `python3 -m {LAUNCH_LAYER}`, not with torchrun.)"
        )
    spec = WorkerSpec.from_json(json.loads(_claim(Path(address.spec))))
    channel = PipeChannel(address.events, address.requests, address.group)
    seat = Seat(spec, channel)
    seat.taken = True
    return seat


def _claim(path: Path) -> str:
    taken = path.with_suffix(".taken.json")
    try:
        path.rename(taken)  # of all who try, one succeeds
    except FileNotFoundError:
        raise UsageError(
            "The context of this trial was taken already: one process of a trial can call mt.init(), once."
        ) from None
    return taken.read_text(encoding="utf-8")
