"""A search without training: trials that are numbers, on slots that are a number, in an order that a seed decides.

It holds the searcher to the rules of `mnist_trials.plugin.searcher` at every event, and stands in for the controller.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal, final

from mnist_trials.plugin import Action, Create, Pause, Resume, Searcher, SearcherContext, Shutdown, Stop

Fate = Callable[[Random], Literal["error", "invalid_hp"] | None]
"""Whether a trial fails at its next step, and how."""


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
    most_events: int = 20_000  # a search that has not ended by then never will


@final
@dataclass(slots=True)
class _Trial:
    until: int
    units: int = 0
    state: Literal["running", "paused", "stopping", "ended"] = "running"


@final
@dataclass(slots=True)
class Search:
    """One search from its beginning to its end; `history` is every event with the actions it was answered with."""

    make: Callable[[], Searcher]
    world: World
    history: list[tuple[Any, ...]] = field(default_factory=list)
    trials: dict[int, _Trial] = field(default_factory=dict)
    progress: float = 0.0
    shut_down: bool = False
    _searcher: Searcher = field(init=False)
    _snapshot: tuple[dict[str, Any], str] | None = None

    def run(self) -> Search:
        """Go through the search.

        Raises:
            AssertionError: the searcher breaks a rule; the text says which.
        """
        dice = Random(self.world.seed)  # noqa: S311
        self._searcher = self.make()
        self._tell("initial_trials")
        assert self.trials, "the searcher begins without any trial"
        while running := self._running():
            assert len(self.history) < self.world.most_events, "the search does not come to an end"
            self._step(dice.choice(running), dice)
        assert self.shut_down, "no trial is left that could run, and the searcher has not said Shutdown"
        return self

    def _running(self) -> list[int]:
        can_run = [trial_id for trial_id, trial in self.trials.items() if trial.state in ("running", "stopping")]
        return can_run[: self.world.slots]

    def _step(self, trial_id: int, dice: Random) -> None:
        trial = self.trials[trial_id]
        if trial.state == "stopping" or trial.units >= trial.until:
            self._end(trial_id, "trial_exited")
        elif reason := self.world.fate(dice):
            self._end(trial_id, "trial_failed", reason)
        else:
            trial.units = min(trial.units + self.world.period, trial.until)
            self._tell("validation_completed", trial_id, trial.units, self.world.metric(dice))
        if self.world.late_validations and trial.state == "ended":
            actions = self._tell("validation_completed", trial_id, trial.units + 1, self.world.metric(dice))
            assert actions == [], f"a validation of a trial that has ended is answered with {actions}"

    def _end(self, trial_id: int, *event: str) -> None:
        self.trials[trial_id].state = "ended"
        name, *reason = event
        self._tell(name, trial_id, *reason)

    def _tell(self, name: str, *arguments: Any) -> list[Action]:
        if self.world.interrupted and self._snapshot is not None:
            self._searcher = self.make()
            self._searcher.restore(json.loads(self._snapshot[1]))
        answer: Sequence[Action] = getattr(self._searcher, name)(_CONTEXT, *arguments)
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
            case Create(hparams):
                assert not self.shut_down, "a trial is created after Shutdown"
                json.dumps(hparams, allow_nan=False)
                self.trials[len(self.trials) + 1] = _Trial(self.world.length)
            case Stop(trial_id):
                self._require(action, trial_id, "running", "paused")
                # A paused trial has no process that would have to end first.
                if self.trials[trial_id].state == "paused":
                    self._end(trial_id, "trial_exited")
                else:
                    self.trials[trial_id].state = "stopping"
            case Pause(trial_id):
                self._require(action, trial_id, "running")
                self.trials[trial_id].state = "paused"
            case Resume(trial_id, until):
                self._require(action, trial_id, "paused")
                trial = self.trials[trial_id]
                assert trial.units < until, f"{action}, and the trial has trained for {trial.units} already"
                trial.state, trial.until = "running", min(until, self.world.length)
            case Shutdown():
                self.shut_down = True

    def _require(self, action: Action, trial_id: int, *states: str) -> None:
        assert trial_id in self.trials, f"{action}, and there is no such trial"
        state = self.trials[trial_id].state
        assert state in states, f"{action}, and the trial is {state}"


def sample(trial_id: int) -> dict[str, Any]:
    """The hyperparameters of trial `trial_id`."""
    return {"lr": Random(trial_id).random(), "layers": Random(-trial_id).randint(1, 3)}  # noqa: S311


_CONTEXT = SearcherContext(experiment_seed=7, sample=sample)
