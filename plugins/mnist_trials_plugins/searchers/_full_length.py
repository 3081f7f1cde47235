"""Trials that all train to their full length, some at a time: what `random` and `grid` have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from typing_extensions import override

from mnist_trials.plugin import Action, Bracket, Create, Searcher, SearcherContext, Shutdown
from mnist_trials_plugins.searchers._invalid import too_many_invalid


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class FullLengthPlan:
    """What trials are made."""

    trials: int  # that count; those with invalid hyperparameters do not, if they are replaced
    most: int | None  # trials in all, whatever they count as; None: no bound
    places: int  # trials that run at once
    length: int | None  # units; None: the entrypoint decides
    create: Callable[[int], Create]  # makes the trial of that id
    replaces_invalid: bool


@final
class FullLengthSearcher(Searcher):
    """Makes a new trial whenever one has ended, until there were enough."""

    def __init__(self, plan: FullLengthPlan) -> None:
        self._plan = plan
        self._created = 0
        self._invalid = 0  # trials that do not count
        self._live: dict[int, int] = {}  # units of each trial that has not ended
        self._live_units = 0  # of all of them
        self._shut_down = False
        self._least_progress = 0.0  # what was told before an invalid trial was taken out

    @override
    def initial_trials(self, ctx: SearcherContext) -> Sequence[Action]:
        return self._fill()

    @override
    def validation_completed(
        self, ctx: SearcherContext, trial_id: int, units: int, metric: float | None
    ) -> Sequence[Action]:
        if trial_id in self._live and self._plan.length is not None:
            before, now = self._live[trial_id], min(units, self._plan.length)
            self._live[trial_id] = now
            self._live_units += now - before
        return []

    @override
    def trial_exited(self, ctx: SearcherContext, trial_id: int) -> Sequence[Action]:
        return self._left(trial_id)

    @override
    def trial_failed(self, ctx: SearcherContext, trial_id: int, reason: str) -> Sequence[Action]:
        if reason == "invalid_hp" and self._plan.replaces_invalid:
            self._least_progress = self.progress()
            self._invalid += 1
        return self._left(trial_id)

    @override
    def brackets(self) -> Sequence[Bracket] | None:
        if self._plan.length is None:
            return None
        return [
            Bracket(rungs=(self._plan.length,), trials=(self._plan.trials,), max_concurrent_trials=self._plan.places)
        ]

    @override
    def progress(self) -> float:
        if self._shut_down:
            return 1.0
        length = self._plan.length or 1
        ended = self._created - self._invalid - len(self._live)
        done = (ended + self._live_units / length) / self._plan.trials
        return max(self._least_progress, min(done, 1.0))

    @override
    def snapshot(self) -> dict[str, Any]:
        return {
            "created": self._created,
            "invalid": self._invalid,
            "live": [list(item) for item in self._live.items()],
            "shut_down": self._shut_down,
            "least_progress": self._least_progress,
        }

    @override
    def restore(self, snapshot: Mapping[str, Any]) -> None:
        self._created, self._invalid = snapshot["created"], snapshot["invalid"]
        self._live = dict(snapshot["live"])
        self._live_units = sum(self._live.values())
        self._shut_down, self._least_progress = snapshot["shut_down"], snapshot["least_progress"]

    def _left(self, trial_id: int) -> Sequence[Action]:
        self._live_units -= self._live.pop(trial_id, 0)
        if self._shut_down:
            return []
        if self._invalid > self._plan.trials:
            self._shut_down = True
            return [too_many_invalid(self._invalid, self._plan.trials)]
        created = self._fill()
        if self._live:
            return created
        self._shut_down = True
        return [Shutdown()]

    def _fill(self) -> list[Create]:
        actions = []
        while len(self._live) < self._plan.places and self._may_create():
            self._created += 1
            self._live[self._created] = 0
            actions.append(self._plan.create(self._created))
        return actions

    def _may_create(self) -> bool:
        counted = self._created - self._invalid
        return counted < self._plan.trials and (self._plan.most is None or self._created < self._plan.most)
