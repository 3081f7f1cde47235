"""Which waiting trials start on which free slots: a pure function, so that it can be proven by properties."""

from __future__ import annotations

from collections.abc import Sequence
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


def schedule(waiting: Sequence[Waiting], free: Sequence[Slot], room: int | None = None) -> list[Start]:
    """The trials to start, in the order of `waiting`; each gets all of its slots or none.

    The first that does not fit ends the list: those behind it never overtake it, so none waits for ever. `room` is how
    many more trials may run at once; None: no bound.
    """
    starts: list[Start] = []
    left = list(free)
    for trial in waiting:
        if trial.slots > len(left) or (room is not None and len(starts) >= room):
            break
        starts.append(Start(trial.trial_id, tuple(left[: trial.slots])))
        del left[: trial.slots]
    return starts
