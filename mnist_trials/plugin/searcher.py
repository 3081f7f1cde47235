"""What a searcher is: a pure state machine that decides which trials exist and when one stops.

A searcher has no clock and does no I/O. It is called from one thread, one event at a time. Its `snapshot` is stored
in the transaction of the event that changed it, so `restore` followed by the remaining events decides exactly as an
undisturbed searcher would.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final


@final
@dataclass(frozen=True, slots=True)
class Create:
    """Make a new trial. Trial ids count from 1 in the order of creation. `hparams` None: `ctx.sample(trial_id)`."""

    hparams: Mapping[str, Any] | None = None


@final
@dataclass(frozen=True, slots=True)
class Stop:
    """End a trial early; its state is saved."""

    trial_id: int


@final
@dataclass(frozen=True, slots=True)
class Pause:
    """Take a trial off its slots; its state is saved and it may be resumed."""

    trial_id: int


@final
@dataclass(frozen=True, slots=True)
class Resume:
    """Let a paused trial train on until it has `until` units in all."""

    trial_id: int
    until: int


@final
@dataclass(frozen=True, slots=True)
class Shutdown:
    """No more trials: the experiment ends when those running have ended."""


Action = Create | Stop | Pause | Resume | Shutdown


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SearcherContext:
    """What a searcher may know besides its own state."""

    experiment_seed: int
    sample: Callable[[int], dict[str, Any]]  # trial i's hyperparameters: a function of (experiment_seed, i) alone


class Searcher(ABC):
    """Decides by events. Every method returns the actions to take, in order."""

    @abstractmethod
    def initial_trials(self, ctx: SearcherContext) -> Sequence[Action]:
        """Called once, first."""

    @abstractmethod
    def validation_completed(
        self, ctx: SearcherContext, trial_id: int, units: int, metric: float | None
    ) -> Sequence[Action]:
        """Trial `trial_id` was validated after `units` of training (in the searcher's unit).

        `metric` None: it was not finite, or missing; it counts as the worst of all. Units never go down for a trial,
        and no validation is reported twice.
        """

    @abstractmethod
    def trial_exited(self, ctx: SearcherContext, trial_id: int) -> Sequence[Action]:
        """The trial ended of itself or was stopped; it will report no more."""

    @abstractmethod
    def trial_failed(self, ctx: SearcherContext, trial_id: int, reason: str) -> Sequence[Action]:
        """The trial failed for good. `reason` is "error" or "invalid_hp"."""

    @abstractmethod
    def progress(self) -> float:
        """The share of the search that is done, 0 to 1; never goes down."""

    @abstractmethod
    def snapshot(self) -> dict[str, Any]:
        """The whole state as strict JSON."""

    @abstractmethod
    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Go back to what `snapshot` returned; called on a fresh instance made from the same config."""
