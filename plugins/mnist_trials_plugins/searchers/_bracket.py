"""What a bracket of either kind is to its searcher."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, final

from mnist_trials.plugin import Bracket, Create, Judgement, Pause, Resume, Stop
from mnist_trials_plugins.searchers._halving import trials_by_rung
from mnist_trials_plugins.searchers._rung import Rung


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a bracket is made from."""

    index: int
    rungs: tuple[int, ...]  # units, rising
    trials: int  # that it makes
    places: int  # trials of it that run at once, at most
    divisor: Fraction
    smaller_is_better: bool

    def shown(self) -> Bracket:
        """The plan as a person sees it."""
        trials = trials_by_rung(self.trials, self.divisor, len(self.rungs))
        return Bracket(rungs=self.rungs, trials=trials, max_concurrent_trials=self.places)

    def judgement(self, rung: Rung, number: int, trial_id: int, kept: int) -> Judgement:
        """How a trial stands in `rung`, which is the one of that number, now."""
        return Judgement(
            bracket=self.index,
            rung=number,
            units=self.rungs[number],
            rank=rung.rank(trial_id),
            of=len(rung),
            kept=kept,
            threshold=rung.metric(kept),
        )


class BracketState(ABC):
    """The trials of one bracket. An event of a trial that has left it is no news: nothing happens."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    @property
    @abstractmethod
    def running(self) -> int:
        """How many places its trials take: one each, until it rests, is stopped or has ended."""

    @property
    @abstractmethod
    def over(self) -> bool:
        """Whether every trial of it rests or has ended."""

    @abstractmethod
    def progress(self) -> float:
        """The share of its work that is done, about; 0 to 1, lower only after `withdrawn`."""

    @abstractmethod
    def next_action(self, new_trial_id: int) -> Create | Resume | None:
        """Fill one place; None if there is nothing to do now. A new trial will have that id."""

    @abstractmethod
    def reported(self, trial_id: int, units: int, metric: float | None) -> Stop | Pause | None:
        """A validation; the answer is what becomes of that trial, None: it goes on."""

    @abstractmethod
    def exited(self, trial_id: int) -> None:
        """The trial has ended, and what it reported stays."""

    @abstractmethod
    def failed(self, trial_id: int) -> None:
        """The trial failed for good: it counts as the worst of the rung it was on its way to."""

    @abstractmethod
    def withdrawn(self, trial_id: int) -> bool:
        """The trial is as if it had never been, and another one is due. False: it had left before."""

    @abstractmethod
    def snapshot(self) -> dict[str, Any]:
        """As strict JSON."""

    @abstractmethod
    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Go back to what `snapshot` returned, from the beginning."""
