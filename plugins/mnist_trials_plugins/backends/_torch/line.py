"""The way for tensors between ranks, over gloo."""

from __future__ import annotations

import atexit
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from threading import Condition
from typing import Final, final

import torch
import torch.distributed as dist
from typing_extensions import override

from mnist_trials.plugin import Line

_TENSORS: Final = 1
_NEVER_SENT: Final = 2
"""Tags of messages."""

_AT_ONCE: Final = timedelta(milliseconds=1)

_WOKEN: Final = 5.0
"""Seconds in which whoever is woken has left; that takes no time, so it only bounds the end of a broken process."""


@final
class TorchLine(Line):
    """A line over `group`, a group of gloo's own that nothing else uses and that holds all ranks.

    A thread that still waits in gloo when the interpreter ends would abort the process as soon as its peer is gone; so
    the end of the interpreter closes the line.
    """

    def __init__(self, group: dist.ProcessGroup) -> None:
        self._group = group
        self._closed = False
        self._users = 0
        self._changed = Condition()
        atexit.register(self.close)

    @override
    def send(self, tensor: torch.Tensor, rank: int) -> None:
        with self._in_use():
            self._group.send([_bytes(tensor)], rank, _TENSORS).wait()

    @override
    def receive(self, tensor: torch.Tensor, rank: int) -> None:
        with self._in_use():
            self._group.recv([_bytes(tensor)], rank, _TENSORS).wait()

    @contextmanager
    def _in_use(self) -> Iterator[None]:
        with self._changed:
            if self._closed:
                raise RuntimeError("This rank has closed its line to the others.")
            self._users += 1
        try:
            yield
        finally:
            with self._changed:
                self._users -= 1
                self._changed.notify_all()

    @override
    def close(self) -> None:
        with self._changed:
            self._closed = True
            waited_on = self._users > 0
        if waited_on:
            self._wake()
            with self._changed:
                self._changed.wait_for(lambda: self._users == 0, _WOKEN)
        atexit.unregister(self.close)

    def _wake(self) -> None:
        """Make every operation of the group fail.

        Neither `abort` nor `shutdown` of a group does that in gloo. An operation that takes too long does, here and
        at all peers; one whose peer is gone fails without an effect on the others, so each peer is tried.
        """
        for rank in range(self._group.size()):
            if rank != self._group.rank():
                with suppress(RuntimeError):
                    nothing = torch.empty(1, dtype=torch.uint8, device="cpu")
                    self._group.recv([nothing], rank, _NEVER_SENT).wait(_AT_ONCE)


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.view(-1).view(torch.uint8)
