"""What goes into a simulation, and what it leaves behind: trials, what the searcher was told and what it decided."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, final

from mnist_trials.plugin.searcher import Action
from mnist_trials.records import TrialState

Question = Literal["initial_trials", "validation_completed", "trial_exited", "trial_failed"]
Failure = Literal["error", "invalid_hp"]
Objective = Callable[[dict[str, Any], int], float]
"""The metric of a trial with these hyperparameters after so many units of training."""


class Conditions:
    """What befalls the trials and the experiment besides the objective: nothing. For tests, which override it."""

    def seconds_per_unit(self, trial_id: int) -> float:
        """In place of the one for all trials, times which it is taken."""
        return 1.0

    def fate(self, trial_id: int, units: int) -> Literal["exit"] | Failure | None:
        """What becomes of a trial when it has `units`, before it is validated there; "exit": it ends by itself."""
        return None

    def interrupted(self) -> bool:
        """Whether the experiment is paused now, all trials leave their slots, and a new controller goes on with it.

        Asked each time that a trial was validated or has ended.
        """
        return False

    def on_slots(self, time: float, trial_id: int, *, begins: bool) -> None:
        """A trial was given its slots, or has left them."""


@final
class Decision(NamedTuple):
    """What the searcher was told at one moment, and how it answered."""

    time: float  # simulated seconds since the beginning
    event: Question  # the method of the searcher that was called
    trial_id: int | None  # None: told of no trial (the start of the search)
    units: int | None  # of a validation
    metric: float | None  # of a validation, as the searcher got it: None was not finite
    actions: tuple[Action, ...]
    reason: Failure | None = None  # of a failure


@final
@dataclass(slots=True, kw_only=True)
class SimulatedTrial:
    """One trial of a simulation. Its state is COMPLETED or ERROR once the simulation has ended."""

    trial_id: int
    hyperparameters: Mapping[str, Any]
    bracket: int  # counted from 0
    source: int | None  # the trial whose weights it started with
    inherited: int  # units of training in those weights
    units: int = 0  # that it trained itself, in the searcher's unit
    metrics: list[tuple[int, float | None]] = field(default_factory=list)  # (units, value); None was not finite
    stopped_early: bool = False  # by the searcher
    state: TrialState = TrialState.QUEUED
    error: Exception | None = None  # what the objective raised


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationResult:
    """A search that has ended. Two simulations of the same config, objective and seed are equal in all of it."""

    state: Literal["COMPLETED", "ERROR"]  # ERROR: no trial completed
    message: str  # why the search ended in error or before its time; else empty
    trials: list[SimulatedTrial] = field(repr=False)  # trial i at i - 1
    best: SimulatedTrial | None  # the one with the best validation, the first of equals; None: no metric was finite
    best_metric: float | None
    total_units: int  # trained by all trials
    seconds: float  # simulated, from the beginning to the end
    # (time, trial_id, units, value) of each validation, in order
    timeline: list[tuple[float, int, int, float | None]] = field(repr=False)
    decisions: list[Decision] = field(repr=False)
