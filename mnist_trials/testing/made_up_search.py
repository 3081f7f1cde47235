"""A search without training: trials that are numbers, on slots that are a number, in an order that a seed decides.

It holds the searcher to the rules of `mnist_trials.plugin.searcher` at every event, and stands in for the controller.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal, final

from mnist_trials.config import sample
from mnist_trials.plugin import Action, Create, Pause, Resume, Searcher, SearcherContext, Shutdown, Stop

_EXPERIMENT_SEED = 7

HYPERPARAMETERS: Mapping[str, Any] = {
    "lr": {"type": "double", "minval": 0.0, "maxval": 1.0, "count": 3},
    "layers": {"type": "int", "minval": 1, "maxval": 3, "count": 3},
}
"""A `hyperparameters` section, resolved."""

Fate = Callable[[Random], Literal["error", "invalid_hp", "exit"] | None]
"""What becomes of a trial at its next step: it fails, ends by itself, or goes on."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What happens around the searcher."""

    length: int  # units that a trial trains if nobody ends it
    period: int  # units between two validations of a trial
    slots: int = 3  # trials that can run at once
    seed: int = 0
    metric: Callable[[Random], float | None] = lambda dice: dice.random()
    fate: Fate = lambda _: None
    interrupted: bool = False  # the controller is killed, and another one goes on, before every event
    late_validations: bool = False  # a trial that has ended is heard of once more
    max_trials: int | None = None  # that may be made, those with invalid hyperparameters not counted; None: no bound
    hyperparameters: Mapping[str, Any] = field(default_factory=lambda: HYPERPARAMETERS)
    most_events: int = 20_000  # a search that has not ended by then never will


@final
@dataclass(slots=True)
class MadeUpTrial:
    """One trial. `running` may mean that it waits for a slot."""

    goal: int  # how far it may train for now
    bracket: int
    units: int = 0  # of training; it was validated there
    state: Literal["running", "paused", "stopping", "ended"] = "running"


@final
@dataclass(slots=True)
class Search:
    """One search from its beginning to its end; `history` is every event with the actions it was answered with."""

    make: Callable[[], Searcher]
    world: World
    history: list[tuple[Any, ...]] = field(default_factory=list)
    trials: dict[int, MadeUpTrial] = field(default_factory=dict)
    progress: float = 0.0
    shut_down: bool = False
    invalid: int = 0
    _searcher: Searcher = field(init=False)
    _context: SearcherContext = field(init=False)
    _snapshot: tuple[dict[str, Any], str] | None = None

    def run(self) -> Search:
        """Go through the search.

        Raises:
            AssertionError: the searcher breaks a rule; the text says which.
        """
        dice, space = Random(self.world.seed), self.world.hyperparameters  # noqa: S311
        self._context = SearcherContext(
            experiment_seed=_EXPERIMENT_SEED, sample=lambda index: sample(space, _EXPERIMENT_SEED, index)
        )
        self._searcher = self.make()
        self._tell("initial_trials")
        assert self.trials, "the searcher begins without any trial"
        while running := self._running():
            assert len(self.history) < self.world.most_events, "the search does not come to an end"
            self._step(dice.choice(running), dice)
        assert self.shut_down, "no trial is left that could run, and the searcher has not said Shutdown"
        return self

    def _running(self) -> list[int]:
        can_run = (trial_id for trial_id, trial in self.trials.items() if trial.state in ("running", "stopping"))
        return list(itertools.islice(can_run, self.world.slots))

    def _step(self, trial_id: int, dice: Random) -> None:
        trial = self.trials[trial_id]
        if trial.state == "stopping" or trial.units >= trial.goal:
            self._end(trial_id)
        elif (fate := self.world.fate(dice)) is not None:
            self._end(trial_id, fate)
        else:
            trial.units = self._next_validation(trial_id)
            self._tell("validation_completed", trial_id, trial.units, self.world.metric(dice))
        if self.world.late_validations and trial.state == "ended":
            actions = self._tell("validation_completed", trial_id, trial.units + 1, self.world.metric(dice))
            assert actions == [], f"a validation of a trial that has ended is answered with {actions}"

    def _next_validation(self, trial_id: int) -> int:
        trial, period = self.trials[trial_id], self.world.period
        points = list(self._searcher.validate_at(trial_id))
        rising = all(first < second for first, second in itertools.pairwise([0, *points, self.world.length + 1]))
        assert rising, f"validate_at({trial_id}) is {points}: it must rise, and lie from 1 to {self.world.length}"
        periodic = (trial.units // period + 1) * period
        return min(periodic, trial.goal, *(point for point in points if point > trial.units))

    def _end(self, trial_id: int, fate: Literal["error", "invalid_hp", "exit"] = "exit") -> None:
        self.trials[trial_id].state = "ended"
        self.invalid += fate == "invalid_hp"
        if fate == "exit":
            self._tell("trial_exited", trial_id)
        else:
            self._tell("trial_failed", trial_id, fate)

    def _tell(self, name: str, *arguments: Any) -> list[Action]:
        if self.world.interrupted and self._snapshot is not None:
            self._searcher = self.make()
            self._searcher.restore(json.loads(self._snapshot[1]))
        answer: Sequence[Action] = getattr(self._searcher, name)(self._context, *arguments)
        actions = list(answer)
        self.history.append((name, *arguments, *actions))
        self._check_state()
        for action in actions:
            self._apply(action)
        return actions

    def _check_state(self) -> None:
        if self._snapshot is not None:
            old, text = self._snapshot
            assert json.dumps(old) == text, "a snapshot changed after it was taken: it must be a copy"
        snapshot = self._searcher.snapshot()
        text = json.dumps(snapshot, allow_nan=False)
        assert json.loads(text) == snapshot, f"the snapshot is not plain JSON: {snapshot}"
        self._snapshot = (snapshot, text)
        progress = self._searcher.progress()
        assert self.progress <= progress <= 1, f"the progress went from {self.progress} to {progress}"
        self.progress = progress

    def _apply(self, action: Action) -> None:
        match action:
            case Create():
                self._create(action)
            case Stop(trial_id):
                self._require(action, trial_id, "running", "paused")
                # A paused trial has no process that would have to end first.
                if self.trials[trial_id].state == "paused":
                    self._end(trial_id)
                else:
                    self.trials[trial_id].state = "stopping"
            case Pause(trial_id):
                self._require(action, trial_id, "running")
                self.trials[trial_id].state = "ended" if self.shut_down else "paused"
            case Resume(trial_id, until):
                self._require(action, trial_id, "paused")
                trial = self.trials[trial_id]
                assert trial.units < until, f"{action}, and the trial has trained for {trial.units} already"
                trial.state, trial.goal = "running", min(until, self.world.length)
            case Shutdown():
                self.shut_down = True
                for trial in self.trials.values():
                    if trial.state == "paused":
                        trial.state = "ended"

    def _create(self, action: Create) -> None:
        assert not self.shut_down, "a trial is created after Shutdown"
        json.dumps(action.hparams, allow_nan=False)
        assert action.until is None or action.until >= 1, f"{action}: 'until' must be at least 1"
        if action.source is not None:
            assert action.source in self.trials, f"{action}, and there is no such trial"
            assert self.trials[action.source].units, f"{action}, and trial {action.source} was never validated"
        trial_id = len(self.trials) + 1
        goal = self.world.length if action.until is None else min(action.until, self.world.length)
        self.trials[trial_id] = MadeUpTrial(goal, self._searcher.bracket_of(trial_id))
        most = self.world.max_trials
        counted = len(self.trials) - self.invalid
        assert most is None or counted <= most, (
            f"{counted} trials are made, those with invalid hyperparameters not counted, and max_trials is {most}"
        )

    def _require(self, action: Stop | Pause | Resume, trial_id: int, *states: str) -> None:
        assert trial_id in self.trials, f"{action}, and there is no such trial"
        state = self.trials[trial_id].state
        assert state in states, f"{action}, and the trial is {state}"
