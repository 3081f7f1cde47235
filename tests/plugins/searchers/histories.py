"""Searches in which anything may happen: every answer is compared with that of the reference."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal

from mnist_trials.plugin import Action, Create, Pause, Resume, Searcher, SearcherContext, Shutdown, Stop
from tests.plugins.searchers.reference import Reference

CONTEXT = SearcherContext(experiment_seed=0, sample=lambda index: {"index": index})


@dataclass
class Trial:
    units: int = 0
    until: int | None = None
    state: Literal["running", "resting", "stopped", "gone"] = "running"


@dataclass
class History:
    """One search to its end. Rules that need no reference are checked here as well."""

    make: Callable[[], Searcher]
    reference: Reference
    dice: Random
    trouble: float  # the chance of each kind of trouble at an event
    trials: dict[int, Trial] = field(default_factory=dict)
    invalid: int = 0
    shutdowns: list[Shutdown] = field(default_factory=list)
    progress: float = 0.0
    questions: int = 0

    def play(self) -> None:
        self.searcher = self.make()
        self.length = self.reference.brackets[0].rungs[-1]
        self.ask("initial_trials")
        assert self.trials
        while active := [each for each, trial in self.trials.items() if trial.state in ("running", "stopped")]:
            if self.happens():
                self.late_report()
            if self.happens():
                self.restart()
            self.step(self.dice.choice(active))
        assert len(self.shutdowns) == 1
        assert self.searcher.progress() == 1.0
        for trial_id in self.trials:
            self.ask("validation_completed", trial_id, self.length + 1, 0.5)
        assert len(self.shutdowns) == 1

    def happens(self) -> bool:
        return self.dice.random() < self.trouble

    def step(self, trial_id: int) -> None:
        trial = self.trials[trial_id]
        at_its_end = trial.units >= (trial.until or self.length)
        if self.happens():
            self.fail(trial_id, self.dice.choice(("error", "invalid_hp")))
        elif trial.state == "stopped" or at_its_end or self.happens():
            trial.state = "gone"
            self.ask("trial_exited", trial_id)
        else:
            trial.units = self.next_units(trial_id)
            self.ask("validation_completed", trial_id, trial.units, self.metric())

    def fail(self, trial_id: int, reason: str) -> None:
        # What becomes of a trial after its stop is no news: it counts as it did when it was stopped.
        self.invalid += reason == "invalid_hp" and self.trials[trial_id].state != "stopped"
        self.trials[trial_id].state = "gone"
        self.ask("trial_failed", trial_id, reason)

    def next_units(self, trial_id: int) -> int:
        """Mostly the next rung; sometimes short of it, or several rungs at once."""
        trial = self.trials[trial_id]
        ahead = [units for units in self.searcher.validate_at(trial_id) if units > trial.units]
        if not self.happens():
            return ahead[0]
        return self.dice.randint(trial.units + 1, self.length)

    def metric(self) -> float | None:
        if self.happens():
            return None
        return self.dice.choice((0.25, 0.5, 0.75, self.dice.random()))

    def late_report(self) -> None:
        """Of a trial that is not supposed to run any more; one that rests may have come further, though."""
        others = [each for each, trial in self.trials.items() if trial.state != "running"]
        if others:
            trial = self.trials[trial_id := self.dice.choice(others)]
            trial.units = min(trial.units + self.dice.randint(1, self.length), self.length)
            actions = self.ask("validation_completed", trial_id, trial.units, self.metric())
            assert actions == [] or trial.state in ("resting", "running")

    def restart(self) -> None:
        snapshot = self.searcher.snapshot()
        self.searcher = self.make()
        self.searcher.restore(json.loads(json.dumps(snapshot, allow_nan=False)))
        assert self.searcher.snapshot() == snapshot

    def ask(self, name: str, *arguments: Any) -> list[Action]:
        self.questions += 1
        assert self.questions < 100 + 20 * self.reference.max_trials, "the search does not come to an end"
        actions: list[Action] = list(getattr(self.searcher, name)(CONTEXT, *arguments))
        plain = [Shutdown() if isinstance(action, Shutdown) else action for action in actions]
        expected = [
            Shutdown() if isinstance(action, Shutdown) else action
            for action in getattr(self.reference, name)(*arguments)
        ]
        assert plain == expected, f"{name}{arguments}"
        for action in actions:
            self.apply(action)
        self.check_rules()
        return actions

    def apply(self, action: Action) -> None:
        assert not self.shutdowns or isinstance(action, Stop), f"{action} after {self.shutdowns}"
        match action:
            case Create(until=until):
                trial_id = len(self.trials) + 1
                self.trials[trial_id] = Trial(until=until)
                assert self.searcher.bracket_of(trial_id) == self.reference.trials[trial_id].bracket
            case Stop(trial_id):
                assert self.trials[trial_id].state == "running"
                self.trials[trial_id].state = "stopped"
            case Pause(trial_id):
                assert self.trials[trial_id].state == "running"
                self.trials[trial_id].state = "resting"
            case Resume(trial_id, until):
                trial = self.trials[trial_id]
                assert trial.state == "resting"
                assert trial.units < until <= self.length
                trial.state, trial.until = "running", until
            case Shutdown():
                self.shutdowns.append(action)

    def check_rules(self) -> None:
        assert len(self.trials) - self.invalid <= self.reference.max_trials
        assert sum(trial.state == "running" for trial in self.trials.values()) <= self.reference.places
        progress = self.searcher.progress()
        assert self.progress <= progress <= 1.0
        self.progress = progress
