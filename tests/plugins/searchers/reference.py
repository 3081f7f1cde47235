"""The rules of asha and adaptive_asha, written as plainly as possible and as slowly as need be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from mnist_trials.plugin import Action, Bracket, Create, Judgement, Pause, Resume, Shutdown, Stop


@dataclass
class Trial:
    bracket: int
    state: Literal["running", "resting", "stopped", "gone"] = "running"
    reached: int = 0  # rungs


class Reference:
    """Sorts every rung anew at every question."""

    def __init__(
        self, brackets: Sequence[Bracket], *, divisor: float, smaller_is_better: bool, stop_once: bool
    ) -> None:
        self.brackets = brackets
        self.divisor = Fraction(str(divisor))
        self.sign = 1 if smaller_is_better else -1
        self.stop_once = stop_once
        self.max_trials = sum(bracket.trials[0] for bracket in brackets)
        self.places = sum(bracket.max_concurrent_trials for bracket in brackets)
        self.rungs: list[list[list[tuple[int, float | None]]]] = [[[] for _ in bracket.rungs] for bracket in brackets]
        self.made = [0] * len(brackets)
        self.trials: dict[int, Trial] = {}
        self.invalid = 0
        self.over = False

    def initial_trials(self) -> list[Action]:
        actions: list[Action] = []
        for b, bracket in enumerate(self.brackets):
            for _ in range(min(bracket.trials[0], bracket.max_concurrent_trials)):
                actions.append(self.create(b))
        return actions + self.fill(0)

    def validation_completed(self, trial_id: int, units: int, metric: float | None) -> list[Action]:
        trial = self.trials[trial_id]
        if trial.state in ("stopped", "gone"):
            return []
        rungs = self.brackets[trial.bracket].rungs
        top = len(rungs) - 1
        worst: Judgement | None = None
        before = trial.reached
        while trial.reached <= top and units >= rungs[trial.reached]:
            r = trial.reached
            trial.reached += 1
            self.rungs[trial.bracket][r].append((trial_id, metric))
            judgement = self.judge(trial_id, r, self.kept(trial.bracket, r, at_least=1))
            if self.stop_once and worst is None and r < top and judgement.rank > judgement.kept:
                worst = judgement
        if trial.reached == before:
            return []
        actions: list[Action] = []
        if worst is not None:
            trial.state = "stopped"
            actions = [Stop(trial_id, worst)]
        elif not self.stop_once and trial.reached <= top and trial.state == "running":
            trial.state = "resting"
            r = trial.reached - 1
            actions = [Pause(trial_id, self.judge(trial_id, r, self.kept(trial.bracket, r, at_least=0)))]
        if self.over:
            return [action for action in actions if isinstance(action, Stop)]
        filled = self.fill(trial.bracket)
        own = [action for action in filled if isinstance(action, Resume) and action.trial_id == trial_id]
        return actions + own + [action for action in filled if action not in own] + self.end()

    def trial_exited(self, trial_id: int) -> list[Action]:
        self.trials[trial_id].state = "gone"
        return [] if self.over else self.fill(self.trials[trial_id].bracket) + self.end()

    def trial_failed(self, trial_id: int, reason: str) -> list[Action]:
        trial = self.trials[trial_id]
        rungs = self.rungs[trial.bracket]
        if reason == "error" and trial.state == "running" and trial.reached < len(rungs):
            rungs[trial.reached].append((trial_id, None))
        if reason == "invalid_hp" and trial.state in ("running", "resting"):
            for rung in rungs:
                rung[:] = [entry for entry in rung if entry[0] != trial_id]
            self.made[trial.bracket] -= 1
            self.invalid += 1
            if self.invalid == self.max_trials + 1 and not self.over:
                trial.state = "gone"
                self.over = True
                return [Shutdown("too many invalid")]
        return self.trial_exited(trial_id)

    def fill(self, first: int) -> list[Action]:
        actions: list[Action] = []
        while sum(trial.state == "running" for trial in self.trials.values()) < self.places:
            order = [first] + [b for b in range(len(self.brackets)) if b != first]
            started = [action for action in map(self.start_in, order[:1]) if action]
            for b in order[1:]:
                if not started and (action := self.start_in(b)):
                    started.append(action)
            if not started:
                break
            actions += started
        return actions

    def start_in(self, b: int) -> Action | None:
        idle = not any(trial.bracket == b and trial.state == "running" for trial in self.trials.values())
        at_the_end = idle and self.made[b] >= self.brackets[b].trials[0]
        if not self.stop_once:
            for r in reversed(range(len(self.rungs[b]) - 1)):
                kept = self.kept(b, r, at_least=1 if at_the_end else 0)
                for trial_id, _ in self.ranking(b, r)[:kept]:
                    trial = self.trials[trial_id]
                    if trial.state == "resting" and trial.reached == r + 1:
                        why = self.judge(trial_id, r, kept)
                        trial.state = "running"
                        return Resume(trial_id, self.brackets[b].rungs[r + 1], why)
        return self.create(b) if self.made[b] < self.brackets[b].trials[0] else None

    def create(self, b: int) -> Action:
        self.made[b] += 1
        self.trials[len(self.trials) + 1] = Trial(b)
        return Create(until=None if self.stop_once else self.brackets[b].rungs[0])

    def end(self) -> list[Action]:
        self.over = all(trial.state in ("resting", "gone") for trial in self.trials.values())
        return [Shutdown()] if self.over else []

    def kept(self, b: int, r: int, at_least: int) -> int:
        return max(math.floor(len(self.rungs[b][r]) / self.divisor), at_least)

    def ranking(self, b: int, r: int) -> list[tuple[int, float | None]]:
        """Best first; `sorted` leaves equal ones in the order in which they came."""
        return sorted(self.rungs[b][r], key=lambda entry: math.inf if entry[1] is None else self.sign * entry[1])

    def judge(self, trial_id: int, r: int, kept: int) -> Judgement:
        b = self.trials[trial_id].bracket
        ranking = self.ranking(b, r)
        return Judgement(
            bracket=b,
            rung=r,
            units=self.brackets[b].rungs[r],
            rank=[entry[0] for entry in ranking].index(trial_id) + 1,
            of=len(ranking),
            kept=kept,
            threshold=ranking[kept - 1][1] if kept else None,
        )
