"""Trials in brackets: which bracket an event belongs to, and who gets a place that became free."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

from typing_extensions import override

from mnist_trials.plugin import Action, Bracket, Create, Pause, Resume, Searcher, SearcherContext, Shutdown, Stop
from mnist_trials_plugins.searchers._bracket import BracketState, Plan
from mnist_trials_plugins.searchers._invalid import too_many_invalid


@final
class HalvingSearcher(Searcher):
    """Runs brackets side by side.

    A place that became free goes to the bracket of the trial that left it, and where that has no use for it to the
    first one that has. A trial that failed for good counts as made; one with invalid hyperparameters does not.
    """

    def __init__(self, plans: Sequence[Plan], make: Callable[[Plan], BracketState]) -> None:
        self._plans = plans
        self._brackets = [make(plan) for plan in plans]
        self._most = sum(plan.trials for plan in plans)
        self._places = sum(plan.places for plan in plans)
        self._bracket_of: list[int] = []  # by trial, from the first
        self._invalid = 0  # trials with invalid hyperparameters
        self._shut_down = False
        self._least_progress = 0.0  # what was told before a trial was withdrawn

    @override
    def initial_trials(self, ctx: SearcherContext) -> Sequence[Action]:
        actions: list[Action] = []
        for bracket in self._brackets:
            while bracket.running < bracket.plan.places and (action := self._start(bracket)):
                actions.append(action)
        return [*actions, *self._fill(self._brackets[0])]

    @override
    def validation_completed(
        self, ctx: SearcherContext, trial_id: int, units: int, metric: float | None
    ) -> Sequence[Action]:
        bracket = self._brackets[self.bracket_of(trial_id)]
        verdict = bracket.reported(trial_id, units, metric)
        if self._shut_down:
            return [] if isinstance(verdict, Pause) else _listed(verdict)
        filled = self._fill(bracket)
        if isinstance(verdict, Pause):  # its own resumption comes first, so that it need not leave its slots
            filled.sort(key=lambda action: not (isinstance(action, Resume) and action.trial_id == trial_id))
        return [*_listed(verdict), *filled, *self._end()]

    @override
    def trial_exited(self, ctx: SearcherContext, trial_id: int) -> Sequence[Action]:
        bracket = self._brackets[self.bracket_of(trial_id)]
        bracket.exited(trial_id)
        return self._go_on(bracket)

    @override
    def trial_failed(self, ctx: SearcherContext, trial_id: int, reason: str) -> Sequence[Action]:
        bracket = self._brackets[self.bracket_of(trial_id)]
        if reason != "invalid_hp":
            bracket.failed(trial_id)
            return self._go_on(bracket)
        progress = self.progress()
        if bracket.withdrawn(trial_id):
            self._least_progress = progress
            self._invalid += 1
            if self._invalid > self._most and not self._shut_down:
                self._shut_down = True
                return [too_many_invalid(self._invalid, self._most)]
        return self._go_on(bracket)

    @override
    def validate_at(self, trial_id: int) -> Sequence[int]:
        return self._plans[self.bracket_of(trial_id)].rungs

    @override
    def bracket_of(self, trial_id: int) -> int:
        return self._bracket_of[trial_id - 1]

    @override
    def brackets(self) -> Sequence[Bracket]:
        return [plan.shown() for plan in self._plans]

    @override
    def progress(self) -> float:
        if self._shut_down:
            return 1.0
        done = sum(bracket.progress() * bracket.plan.trials for bracket in self._brackets)
        return max(self._least_progress, min(done / self._most, 1.0))

    @override
    def snapshot(self) -> dict[str, Any]:
        return {
            "brackets": [bracket.snapshot() for bracket in self._brackets],
            "bracket_of": list(self._bracket_of),
            "invalid": self._invalid,
            "shut_down": self._shut_down,
            "least_progress": self._least_progress,
        }

    @override
    def restore(self, snapshot: Mapping[str, Any]) -> None:
        for bracket, saved in zip(self._brackets, snapshot["brackets"], strict=True):
            bracket.restore(saved)
        self._bracket_of = list(snapshot["bracket_of"])
        self._invalid = snapshot["invalid"]
        self._shut_down = snapshot["shut_down"]
        self._least_progress = snapshot["least_progress"]

    def _go_on(self, bracket: BracketState) -> Sequence[Action]:
        return [] if self._shut_down else [*self._fill(bracket), *self._end()]

    def _fill(self, first: BracketState) -> list[Create | Resume]:
        """Start trials until as many run as there are places, or no bracket has one to start."""
        in_turn = [first, *(bracket for bracket in self._brackets if bracket is not first)]
        actions: list[Create | Resume] = []
        while sum(bracket.running for bracket in in_turn) < self._places:
            action = self._start_one(in_turn)
            if action is None:
                break
            actions.append(action)
        return actions

    def _start_one(self, brackets: Sequence[BracketState]) -> Create | Resume | None:
        for bracket in brackets:
            if action := self._start(bracket):
                return action
        return None

    def _start(self, bracket: BracketState) -> Create | Resume | None:
        action = bracket.next_action(len(self._bracket_of) + 1)
        if isinstance(action, Create):
            self._bracket_of.append(bracket.plan.index)
        return action

    def _end(self) -> Sequence[Action]:
        self._shut_down = all(bracket.over for bracket in self._brackets)
        return [Shutdown()] if self._shut_down else []


def _listed(verdict: Stop | Pause | None) -> Sequence[Action]:
    return [] if verdict is None else [verdict]
