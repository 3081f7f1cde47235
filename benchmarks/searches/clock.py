"""Slots on a simulated clock, the same for every method, and what a method is to it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from heapq import heappop, heappush

from searches.curves import FULL, POINTS, configuration


class Method(ABC):
    """Decides which trials train. Trials are numbered from 1 in the order of creation."""

    @abstractmethod
    def next(self) -> int | None:
        """The trial that takes a free slot, a new one or one that goes on; None: none for now."""

    @abstractmethod
    def report(self, trial: int, units: int, loss: float) -> bool:
        """A running trial was validated; whether it trains on now. At the full length it ends in any case."""


class RandomSearch(Method):
    """Every trial to its full length."""

    def __init__(self, trials: int) -> None:
        self._trials = trials
        self._made = 0

    def next(self) -> int | None:
        if self._made == self._trials:
            return None
        self._made += 1
        return self._made

    def report(self, trial: int, units: int, loss: float) -> bool:
        return True


Progress = list[tuple[int, float]]
"""(units spent so far, true loss of the checkpoint whose report was the best so far), where that changed."""


def run(method: Method, family: str, seed: int, *, slots: int, budget: int | None) -> tuple[Progress, int]:
    """One search until the budget (units of all trials) is spent or it is over; how it went, and the units spent."""
    at: dict[int, int] = {}  # index of the next point of each trial that was begun
    arrivals: list[tuple[float, int, int]] = []  # time, a ticket that breaks ties, trial
    now, ticket, spent, running = 0.0, 0, 0, 0
    best, progress = float("inf"), []

    def send(trial: int) -> None:
        nonlocal ticket
        ticket += 1
        index = at.setdefault(trial, 0)
        seconds = configuration(family, seed, trial).seconds_per_unit * _step(index)
        heappush(arrivals, (now + seconds, ticket, trial))

    while True:
        while running < slots and (trial := method.next()) is not None:
            running += 1
            send(trial)
        if not arrivals:
            return progress, spent
        now, _, trial = heappop(arrivals)
        index, drawn = at[trial], configuration(family, seed, trial)
        at[trial] += 1
        spent += _step(index)
        if drawn.reported[index] < best:
            best = drawn.reported[index]
            progress.append((spent, drawn.true[index]))
        if budget is not None and spent >= budget:
            return progress, spent
        if method.report(trial, POINTS[index], drawn.reported[index]) and POINTS[index] < FULL:
            send(trial)
        else:
            running -= 1


def _step(index: int) -> int:
    return POINTS[index] - (POINTS[index - 1] if index else 0)
