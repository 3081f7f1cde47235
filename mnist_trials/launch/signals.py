"""Signals that come to the launch layer and are meant for the ranks."""

from __future__ import annotations

import os
import signal
from contextlib import AbstractContextManager, suppress
from types import FrameType, TracebackType
from typing import Any, Final, final

from typing_extensions import override

_PASSED_ON: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_BY_SIGNAL: Final = 128


@final
class Signals(AbstractContextManager["Signals"]):
    """For the time of a `with` block passes signals on to the ranks, which have sessions of their own.

    A terminal's Ctrl-C therefore reaches each of them once. A signal that comes before there is any rank ends this
    process; one that is ignored here stays so.
    """

    def __init__(self) -> None:
        self._before: dict[signal.Signals, Any] = {}
        self._ranks: dict[int, int] = {}  # local rank -> the process that leads its session
        self._awaited = 0
        self._early: list[int] = []

    @override
    def __enter__(self) -> Signals:
        for number in _PASSED_ON:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._take)
        return self

    @override
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def await_ranks(self, count: int) -> None:
        """From now on `count` ranks are being started: signals wait for those that are not there yet."""
        self._awaited = count

    def started(self, local_rank: int, pid: int) -> None:
        """Process `pid`, which leads a session, is now rank number `local_rank` of this machine; from any thread."""
        self._ranks[local_rank] = pid
        for number in self._early[:]:
            _send(pid, number)

    def send(self, number: int) -> None:
        """Send signal `number` to every rank with all it has started; from any thread."""
        if len(self._ranks) < self._awaited:
            self._early.append(number)
        for pid in tuple(self._ranks.values()):
            _send(pid, number)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if not self._awaited:
            raise SystemExit(_BY_SIGNAL + number)
        self.send(number)


def _send(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, number)
