"""A bracket whose trials rest at each rung until they are promoted to the next one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from sortedcontainers import SortedList
from typing_extensions import override

from mnist_trials.plugin import Create, Pause, Resume, Stop
from mnist_trials_plugins.searchers._bracket import BracketState, Plan
from mnist_trials_plugins.searchers._halving import kept, trials_by_rung
from mnist_trials_plugins.searchers._rung import Key, Rung


@final
class PromotionBracket(BracketState):
    """A resting trial is promotable if it is among the best `floor(n / divisor)` of the n that came to its rung."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self._rungs = [Rung(plan.smaller_is_better) for _ in plan.rungs]
        self._resting: list[SortedList[Key]] = [SortedList() for _ in plan.rungs]
        self._made = 0
        self._running: dict[int, int] = {}  # the rung that each trial is on its way to; len(rungs): it is past the top
        self._rung_of: dict[int, int] = {}  # the rung at which each trial rests
        self._planned = trials_by_rung(plan.trials, plan.divisor, len(plan.rungs))
        self._steps = [high - low for low, high in zip((0, *plan.rungs), plan.rungs, strict=False)]
        self._work = sum(step * trials for step, trials in zip(self._steps, self._planned, strict=True))
        self._done = 0  # units, of those planned
        self._settled: set[int] = set()  # rungs that nobody can be promoted from until something happens there

    @property
    @override
    def running(self) -> int:
        return len(self._running)

    @property
    @override
    def over(self) -> bool:
        return not self._running

    @override
    def progress(self) -> float:
        return self._done / self._work

    @override
    def next_action(self, new_trial_id: int) -> Create | Resume | None:
        at_the_end = not self._running and self._made >= self.plan.trials
        for number in reversed(range(len(self._rungs) - 1)):
            if at_the_end or number not in self._settled:
                if promotion := self._promotion(number, at_least=1 if at_the_end else 0):
                    return promotion
                self._settled.add(number)
        if self._made >= self.plan.trials:
            return None
        self._made += 1
        self._running[new_trial_id] = 0
        return Create(until=self.plan.rungs[0])

    @override
    def reported(self, trial_id: int, units: int, metric: float | None) -> Stop | Pause | None:
        first, top = self._next_rung(trial_id), len(self._rungs) - 1
        reached = [number for number in range(first, top + 1) if units >= self.plan.rungs[number]]
        if not reached:
            return None
        highest, was_running = reached[-1], trial_id in self._running
        self.exited(trial_id)
        for number in reached:
            self._enter(number, trial_id, metric)
        if highest == top:
            if was_running:
                self._running[trial_id] = top + 1
            return None
        self._rung_of[trial_id] = highest
        rung = self._rungs[highest]
        self._resting[highest].add(rung.key(trial_id))
        if not was_running:
            return None
        return Pause(trial_id, self.plan.judgement(rung, highest, trial_id, kept(len(rung), self.plan.divisor)))

    @override
    def exited(self, trial_id: int) -> None:
        self._running.pop(trial_id, None)
        number = self._rung_of.pop(trial_id, None)
        if number is not None:
            self._resting[number].remove(self._rungs[number].key(trial_id))
            self._settled.discard(number)

    @override
    def failed(self, trial_id: int) -> None:
        number = self._running.get(trial_id, len(self._rungs))
        if number < len(self._rungs):
            self._enter(number, trial_id, None)
        self.exited(trial_id)

    @override
    def withdrawn(self, trial_id: int) -> bool:
        if trial_id not in self._running and trial_id not in self._rung_of:
            return False
        self.exited(trial_id)
        self._made -= 1
        for number, rung in enumerate(self._rungs):
            if trial_id in rung:
                self._done -= self._steps[number] if len(rung) <= self._planned[number] else 0
                rung.remove(trial_id)
                self._settled.discard(number)
        return True

    @override
    def snapshot(self) -> dict[str, Any]:
        rungs = []
        for number, rung in enumerate(self._rungs):
            saved = rung.snapshot()
            saved["gone"] = [trial_id for trial_id in saved["trials"] if self._rung_of.get(trial_id) != number]
            rungs.append(saved)
        return {
            "made": self._made,
            "done": self._done,
            "running": [list(item) for item in self._running.items()],
            "rungs": rungs,
        }

    @override
    def restore(self, snapshot: Mapping[str, Any]) -> None:
        self._made, self._done = snapshot["made"], snapshot["done"]
        self._running = dict(snapshot["running"])
        for number, saved in enumerate(snapshot["rungs"]):
            self._rungs[number].restore(saved)
            gone = set(saved["gone"])
            resting = [trial_id for trial_id in saved["trials"] if trial_id not in gone]
            self._rung_of.update(dict.fromkeys(resting, number))
            self._resting[number].update(map(self._rungs[number].key, resting))

    def _promotion(self, number: int, at_least: int) -> Resume | None:
        """The best trial resting at a rung goes on, if it is good enough."""
        rung, resting = self._rungs[number], self._resting[number]
        most = max(kept(len(rung), self.plan.divisor), at_least)
        if not resting or rung.rank(resting[0][2]) > most:
            return None
        trial_id = resting[0][2]
        why = self.plan.judgement(rung, number, trial_id, most)
        self.exited(trial_id)
        self._running[trial_id] = number + 1
        return Resume(trial_id, self.plan.rungs[number + 1], why)

    def _next_rung(self, trial_id: int) -> int:
        """The lowest rung that a trial has not come to; past the top for one that has ended."""
        if trial_id in self._running:
            return self._running[trial_id]
        return self._rung_of.get(trial_id, len(self._rungs)) + 1

    def _enter(self, number: int, trial_id: int, metric: float | None) -> None:
        rung = self._rungs[number]
        rung.add(trial_id, metric)
        self._settled.discard(number)
        self._done += self._steps[number] if len(rung) <= self._planned[number] else 0
