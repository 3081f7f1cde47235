"""Which waiting trials start on which free slots: a pure function, so that it can be proven by properties."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import final

from mnist_trials.records import Slot


@final
@dataclass(frozen=True, slots=True)
class Waiting:
    """A trial that could start now, and how many slots it needs."""

    trial_id: int
    slots: int


@final
@dataclass(frozen=True, slots=True)
class Start:
    """A trial to start, and its slots by rank."""

    trial_id: int
    slots: tuple[Slot, ...]


def schedule(
    waiting: Sequence[Waiting], free: Sequence[Slot], room: int | None = None, *, one_host: bool = False
) -> list[Start]:
    """The trials to start, in the order of `waiting`; each gets all of its slots or none.

    The first that does not fit ends the list: those behind it never overtake it, so none waits for ever. `room` is how
    many more trials may run at once; None: no bound. `one_host`: all slots of a trial must be on one host.
    """
    starts: list[Start] = []
    left = list(free)
    for trial in waiting:
        if room is not None and len(starts) >= room:
            break
        slots = place(left, trial.slots, one_host=one_host)
        if slots is None:
            break
        starts.append(Start(trial.trial_id, slots))
        left = [slot for slot in left if slot not in slots]
    return starts


def place(free: Iterable[Slot], count: int, *, one_host: bool = False) -> tuple[Slot, ...] | None:
    """`count` of the free slots, by host and index; None where there are not so many (on one host, if that is asked).

    Best fit. Slots with neighbouring indices on one host are a run. Of the runs that are long enough the shortest is
    taken, the first of equals, so that long ones stay whole for those who need them. Where none is, as few runs as
    possible: the longest first, until what is left to take fits into one.
    """
    runs = runs_of(free)
    if one_host:
        by_host: dict[str, list[list[Slot]]] = {}
        for run in runs:
            by_host.setdefault(run[0].host, []).append(run)
        options = [chosen for host in by_host.values() if (chosen := _fill(host, count)) is not None]
        # A host is used up as far as can be, for the same reason as a run.
        return min(options, key=lambda option: option[0], default=(0, None))[1]
    filled = _fill(runs, count)
    return None if filled is None else filled[1]


def runs_of(slots: Iterable[Slot]) -> list[list[Slot]]:
    """`slots` as maximal runs of neighbouring indices, by host and index."""
    runs: list[list[Slot]] = []
    for slot in sorted(slots, key=lambda slot: (slot.host, slot.index)):
        if runs and (runs[-1][-1].host, runs[-1][-1].index + 1) == (slot.host, slot.index):
            runs[-1].append(slot)
        else:
            runs.append([slot])
    return runs


def _fill(runs: Sequence[list[Slot]], count: int) -> tuple[int, tuple[Slot, ...]] | None:
    """How many slots there are in all, and the `count` to take of them; None where there are fewer."""
    there = sum(map(len, runs))
    if there < count:
        return None
    left = sorted(runs, key=len)  # stable: of equals the first
    chosen: list[Slot] = []
    while len(chosen) < count:
        wanted = count - len(chosen)
        run = next((run for run in left if len(run) >= wanted), left[-1])
        left.remove(run)
        chosen += run[:wanted]
    return there, tuple(sorted(chosen, key=lambda slot: (slot.host, slot.index)))
