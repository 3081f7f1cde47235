"""What a searcher is: a pure state machine that decides which trials exist and when one stops.

A searcher has no clock and does no I/O. It is called from one thread, one event at a time. Every event is stored with
the actions it was answered with, and now and then a `snapshot` beside it. So `restore`, followed by the events since
then, brings a new controller to where the last one was: it must decide exactly as an undisturbed searcher would.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """How a trial stood at a rung when something was decided about it; kept with the decision."""

    bracket: int  # counted from 0, as in `Searcher.brackets`
    rung: int  # counted from 0, the lowest
    units: int  # of training at that rung
    rank: int  # of the trial, 1 is the best
    of: int  # trials that had come to this rung
    kept: int  # how many of them go on: those of rank 1 to `kept`
    threshold: float | None  # the metric of the last of those; None: not finite

    def __post_init__(self) -> None:
        assert 1 <= self.rank <= self.of


Reason = Judgement | str
"""Why something was decided: how the trial stood, or a sentence."""


@final
@dataclass(frozen=True, slots=True)
class Create:
    """Make a new trial. Trial ids count from 1 in the order of creation. `hparams` None: `ctx.sample(trial_id)`.

    It trains to the full length, or where `until` is given, until it has so many units: it is validated there and
    rests if the answer says so (`Pause`), goes on if it does (`Pause`, then `Resume`), else ends of itself. `source` is
    a trial that has been validated: the new one starts with the weights it had then.
    """

    hparams: Mapping[str, Any] | None = None
    until: int | None = None
    source: int | None = None
    why: Reason | None = None


@final
@dataclass(frozen=True, slots=True)
class Stop:
    """End a trial early; its state is saved."""

    trial_id: int
    why: Reason | None = None


@final
@dataclass(frozen=True, slots=True)
class Pause:
    """Take a trial off its slots; its state is saved and it may be resumed."""

    trial_id: int
    why: Reason | None = None


@final
@dataclass(frozen=True, slots=True)
class Resume:
    """Let a paused trial train on until it has `until` units in all, as `Create` says.

    Directly after a `Pause` of the same trial it means: go on without leaving the slots.
    """

    trial_id: int
    until: int
    why: Reason | None = None


@final
@dataclass(frozen=True, slots=True)
class Shutdown:
    """No more trials: those that are paused end, and the experiment ends when those running have ended.

    `why` is given where the search ends before its time; a person is told.
    """

    why: str = ""


Action = Create | Stop | Pause | Resume | Shutdown


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Bracket:
    """One schedule of rungs, as `preview-search` shows it."""

    rungs: tuple[int, ...]  # units of training, rising; the last is the full length
    trials: tuple[int, ...]  # how many trials get to each rung, by plan; falling, the first is all
    max_concurrent_trials: int


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

    def validate_at(self, trial_id: int) -> Sequence[int]:
        """The units at which trial `trial_id`, which exists, must be validated, whatever the config's own periods.

        Asked each time that the trial starts. The runtime validates exactly there (a script that sets periods of its
        own is warned where it does not).
        """
        return ()

    def bracket_of(self, trial_id: int) -> int:
        """Which of `brackets` trial `trial_id` belongs to."""
        return 0

    def brackets(self) -> Sequence[Bracket] | None:
        """The plan of the search, told before it begins; None: there is none, it depends on what happens."""
        return None

    @abstractmethod
    def progress(self) -> float:
        """The share of the search that is done, 0 to 1; never goes down. Called after every event: keep it cheap."""

    @abstractmethod
    def snapshot(self) -> dict[str, Any]:
        """The whole state as strict JSON."""

    @abstractmethod
    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Go back to what `snapshot` returned; called on a fresh instance made from the same config."""
