"""What the ranks print, on its way to where this process prints: whole lines, marked with their rank."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from dataclasses import dataclass
from typing import IO, Final, final

from mnist_trials.launch.signals import Signals

LONGEST_LINE: Final = 65_536
_LEFT_BEHIND: Final = 10.0  # seconds for the last of a rank's processes to be ended

_GREETING: Final = re.compile(rb"\0mnist-trials: local rank (\d+), rank (\d+) of (\d+), process (\d+)\n")


def greeting(local_rank: int, rank: int, size: int, pid: int) -> bytes:
    """The line with which a rank begins each of its streams; nobody prints such a line by accident."""
    return f"\0mnist-trials: local rank {local_rank}, rank {rank} of {size}, process {pid}\n".encode()


@final
@dataclass(frozen=True, slots=True)
class _Stream:
    """A pipe from one rank, and where its lines go."""

    read: int
    write: int  # kept open as long as a rank may be started, which opens it anew
    target: IO[bytes]


@final
class Output:
    """Two pipes for each rank of this machine, read by a thread each.

    Attributes:
        addresses: for each local rank the files of its standard output and standard error, for a child to open.
    """

    def __init__(self, ranks: int, signals: Signals) -> None:
        self._signals = signals
        self._printing = threading.Lock()
        signals.await_ranks(ranks)
        streams = [[_Stream(*os.pipe(), target) for target in _targets()] for _ in range(ranks)]
        self.addresses = [[f"/proc/{os.getpid()}/fd/{stream.write}" for stream in pair] for pair in streams]
        self._streams = [stream for pair in streams for stream in pair]
        self._threads = [
            threading.Thread(target=self._carry, args=(stream,), name="rank-output", daemon=True)
            for stream in self._streams
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Wait until every stream has ended: until then processes may be left that a rank has started."""
        for stream in self._streams:
            os.close(stream.write)
        for thread in self._threads:
            thread.join(_LEFT_BEHIND)

    def _carry(self, stream: _Stream) -> None:
        mark, rest = b"", b""
        while data := os.read(stream.read, LONGEST_LINE):
            rest += data
            while found := _GREETING.search(rest):
                self._print(stream.target, _marked(mark, rest[: found.start()], last=True))
                mark, rest = self._greet(found), rest[found.end() :]
            end = len(rest) if not mark or len(rest) > LONGEST_LINE else rest.rfind(b"\n") + 1
            self._print(stream.target, _marked(mark, rest[:end], last=False))
            rest = rest[end:]
        self._print(stream.target, _marked(mark, rest, last=True))

    def _greet(self, found: re.Match[bytes]) -> bytes:
        local_rank, number, size, pid = map(int, found.groups())
        self._signals.started(local_rank, pid)
        return f"[rank={number}] ".encode() if size > 1 else b""

    def _print(self, target: IO[bytes], data: bytes) -> None:
        if not data:
            return
        with self._printing:
            try:
                target.write(data)
                target.flush()
            except OSError:  # nobody reads any more, so nobody would hear of the end either
                self._signals.send(signal.SIGTERM)


def _targets() -> tuple[IO[bytes], IO[bytes]]:
    return sys.stdout.buffer, sys.stderr.buffer


def _marked(mark: bytes, data: bytes, *, last: bool) -> bytes:
    """`data` with `mark` before each line, and an end to its last one if it is the `last` of its stream."""
    if not mark or not data:
        return data
    marked = mark + data.removesuffix(b"\n").replace(b"\n", b"\n" + mark)
    return marked + b"\n" if last or data.endswith(b"\n") else marked
