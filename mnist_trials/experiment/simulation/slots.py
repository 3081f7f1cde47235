"""Simulated time and slots: which trials run, which wait, and which of them gets anywhere next."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from heapq import heappop, heappush
from typing import final

from mnist_trials.experiment.simulation.records import SimulatedTrial
from mnist_trials.records import TrialState

_NEARLY = 1e-9  # of a unit: what float sums of seconds may lack


@final
class Place(Enum):
    """Where a trial is."""

    WAITING = "waiting"
    RUNNING = "running"
    RESTING = "resting"
    ENDED = "ended"


@final
@dataclass(slots=True, eq=False)
class LiveTrial:
    """A trial that has not ended, and what the searcher wants of it."""

    trial: SimulatedTrial
    seconds_per_unit: float
    until: int | None  # how far it may train for now; None: to the end
    stop: bool = False
    rest: bool = False
    place: Place = Place.WAITING
    points: tuple[int, ...] = ()  # where the searcher wants it validated, rising
    validated: int = 0  # units at its last validation
    heading: int = 0  # where it stops to be validated next
    since: float = 0.0  # when it had `base` units and trained
    base: int = 0
    ticket: int = 0  # of its entry among what comes next; older ones are void


@final
class SlotClock:
    """Trials on at most `at_once` places, on a clock that jumps from one arrival to the next.

    Those that wait start in the order of their ids. Every step costs O(log n) of the trials that run or wait.
    """

    def __init__(self, at_once: int) -> None:
        self.now = 0.0
        self.at_once = at_once
        self.running: dict[int, LiveTrial] = {}
        self._waiting: list[tuple[int, LiveTrial]] = []
        self._arrivals: list[tuple[float, int, LiveTrial]] = []
        self._tickets = 0

    def wait(self, live: LiveTrial) -> None:
        """Put a trial among those that wait for a place."""
        live.place = Place.WAITING
        live.trial.state = TrialState.QUEUED
        heappush(self._waiting, (live.trial.trial_id, live))

    def next_to_start(self) -> LiveTrial | None:
        """Give a free place to the first that waits, if there are both; it has yet to be sent `towards` a point."""
        while self._waiting and len(self.running) < self.at_once:
            trial_id, live = heappop(self._waiting)
            if live.place is Place.WAITING:
                live.place = Place.RUNNING
                live.trial.state = TrialState.RUNNING
                live.since, live.base = self.now, live.trial.units
                self.running[trial_id] = live
                return live
        return None

    def towards(self, live: LiveTrial, units: int) -> None:
        """Have a running trial train until it has `units`; where it was sent before is void."""
        self._tickets += 1
        live.heading, live.ticket = units, self._tickets
        arrival = max(live.since + (units - live.base) * live.seconds_per_unit, self.now)
        heappush(self._arrivals, (arrival, self._tickets, live))

    def next_arrival(self) -> LiveTrial | None:
        """Go to the moment at which a running trial gets where it was sent; None: no trial runs."""
        while self._arrivals:
            time, ticket, live = heappop(self._arrivals)
            if live.ticket == ticket and live.place is Place.RUNNING:
                self.now = live.since = time
                live.base = live.heading
                return live
        return None

    def reached(self, live: LiveTrial) -> int:
        """How many whole units a running trial has by now."""
        passed = (self.now - live.since) / live.seconds_per_unit
        return min(live.base + int(passed + _NEARLY), live.heading)

    def leave(self, live: LiveTrial, place: Place) -> None:
        """Take a trial away from its place among those that run or wait."""
        self.running.pop(live.trial.trial_id, None)
        live.place = place
