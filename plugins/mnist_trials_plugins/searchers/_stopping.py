"""A bracket whose trials are judged once at each rung, and go on or end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from typing_extensions import override

from mnist_trials.plugin import Create, Judgement, Pause, Resume, Stop
from mnist_trials_plugins.searchers._bracket import BracketState, Plan
from mnist_trials_plugins.searchers._halving import kept
from mnist_trials_plugins.searchers._rung import Rung


@final
class StoppingBracket(BracketState):
    """A trial goes on from a rung if it is among the best `max(floor(n / divisor), 1)` of the n there, it included."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self._rungs = [Rung(plan.smaller_is_better) for _ in plan.rungs]
        self._made = 0
        self._live: dict[int, int] = {}  # the rung that each trial is on its way to; len(rungs): it is past the top
        self._stopped: set[int] = set()  # those that have not ended yet
        self._done = 0  # units, those that a trial that ended early was spared included

    @property
    @override
    def running(self) -> int:
        return len(self._live)

    @property
    @override
    def over(self) -> bool:
        return not self._live and not self._stopped

    @override
    def progress(self) -> float:
        return self._done / (self.plan.trials * self.plan.rungs[-1])

    @override
    def next_action(self, new_trial_id: int) -> Create | Resume | None:
        if self._made >= self.plan.trials:
            return None
        self._made += 1
        self._live[new_trial_id] = 0
        return Create()

    @override
    def reported(self, trial_id: int, units: int, metric: float | None) -> Stop | Pause | None:
        lowest_failed: Judgement | None = None
        while self._has_reached(trial_id, units):
            number = self._live[trial_id]
            self._live[trial_id] = number + 1
            self._done += self._past(number + 1) - self._past(number)
            judgement = self._enter(number, trial_id, metric)
            if lowest_failed is None and judgement.rank > judgement.kept and number < len(self._rungs) - 1:
                lowest_failed = judgement
        if lowest_failed is None:
            return None
        self._leave(trial_id)
        self._stopped.add(trial_id)
        return Stop(trial_id, lowest_failed)

    @override
    def exited(self, trial_id: int) -> None:
        self._stopped.discard(trial_id)
        self._leave(trial_id)

    @override
    def failed(self, trial_id: int) -> None:
        number = self._live.get(trial_id, len(self._rungs))
        if number < len(self._rungs):
            self._rungs[number].add(trial_id, None)
        self.exited(trial_id)

    @override
    def withdrawn(self, trial_id: int) -> bool:
        if trial_id not in self._live:
            self.exited(trial_id)
            return False
        self._done -= self._past(self._live.pop(trial_id))
        self._made -= 1
        for rung in self._rungs:
            rung.remove(trial_id)
        return True

    @override
    def snapshot(self) -> dict[str, Any]:
        return {
            "made": self._made,
            "done": self._done,
            "live": [list(item) for item in self._live.items()],
            "stopped": sorted(self._stopped),
            "rungs": [rung.snapshot() for rung in self._rungs],
        }

    @override
    def restore(self, snapshot: Mapping[str, Any]) -> None:
        self._made, self._done = snapshot["made"], snapshot["done"]
        self._live = dict(snapshot["live"])
        self._stopped = set(snapshot["stopped"])
        for rung, saved in zip(self._rungs, snapshot["rungs"], strict=True):
            rung.restore(saved)

    def _has_reached(self, trial_id: int, units: int) -> bool:
        number = self._live.get(trial_id, len(self._rungs))
        return number < len(self._rungs) and units >= self.plan.rungs[number]

    def _enter(self, number: int, trial_id: int, metric: float | None) -> Judgement:
        rung = self._rungs[number]
        rung.add(trial_id, metric)
        return self.plan.judgement(rung, number, trial_id, max(kept(len(rung), self.plan.divisor), 1))

    def _leave(self, trial_id: int) -> None:
        if trial_id in self._live:
            self._done += self.plan.rungs[-1] - self._past(self._live.pop(trial_id))

    def _past(self, number: int) -> int:
        """The units that a trial has for certain which is on its way to the rung of that number."""
        return self.plan.rungs[number - 1] if number else 0
