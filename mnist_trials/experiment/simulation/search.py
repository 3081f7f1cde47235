"""The search of a simulation: trials on simulated slots, and what the searcher wants of them, carried out.

It answers the searcher as the controller does, by the rules of `mnist_trials.plugin.searcher`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Any, final

from mnist_trials.config import ExperimentConfig, sample
from mnist_trials.errors import InvalidHP, PluginError, UsageError
from mnist_trials.experiment.machinery import Workshop
from mnist_trials.experiment.offer import slots_per_trial
from mnist_trials.experiment.simulation.records import (
    Conditions,
    Failure,
    Objective,
    Question,
    SimulatedTrial,
    SimulationResult,
)
from mnist_trials.experiment.simulation.searcher import SimulatedSearcher
from mnist_trials.experiment.simulation.slots import LiveTrial, Place, SlotClock
from mnist_trials.experiment.simulation.validations import Validations
from mnist_trials.experiment.slots import concurrency
from mnist_trials.plugin import get_plugins
from mnist_trials.plugin.searcher import Action, Create, Pause, Resume, Searcher, SearcherContext, Shutdown, Stop
from mnist_trials.records import TrialState


def places(config: ExperimentConfig, slots: int) -> int:
    """How many trials run at once at most on `slots` slots.

    Raises:
        UsageError: not even one.
    """
    _require_whole(slots)
    offered = min(slots, config.resources.max_slots or slots)
    each = max(slots_per_trial(config, offered), 1)
    if offered < each:
        raise UsageError(f"A trial takes {each} {'slot' if each == 1 else 'slots'}, and the experiment has {offered}.")
    return min(offered // each, concurrency(config) or offered)


def _require_whole(slots: object) -> None:
    if not isinstance(slots, int) or isinstance(slots, bool):
        raise UsageError(f"slots must be a whole number of at least 1, not {slots!r}.")


@final
class Simulation:
    """One search of `config`, with `make` in place of its searcher where that is given; `run` is called once."""

    def __init__(
        self,
        config: ExperimentConfig,
        objective: Objective,
        *,
        slots: int = 1,
        seconds_per_unit: float = 1.0,
        conditions: Conditions | None = None,
        make: Callable[[], Searcher] | None = None,
    ) -> None:
        if not (seconds_per_unit > 0 and math.isfinite(seconds_per_unit)):
            raise UsageError(f"seconds_per_unit must be a number above 0, not {seconds_per_unit!r}.")
        seed, space = config.experiment_seed, config.hyperparameters
        context = SearcherContext(experiment_seed=seed, sample=lambda index: sample(space, seed, index))
        make = make or Workshop(get_plugins(), config, {}).searcher
        self._searcher = SimulatedSearcher(config.searcher.name, make, context)
        self._validations = Validations(config)
        self._objective = objective
        self._conditions = conditions or Conditions()
        self._seconds_per_unit = seconds_per_unit
        self._clock = SlotClock(places(config, slots))
        self._sign = 1.0 if config.searcher.smaller_is_better else -1.0
        self._questions: deque[tuple[Question, int | None, int | None, float | None, Failure | None]] = deque()
        self._live: dict[int, LiveTrial] = {}  # all that have not ended
        self._resting: dict[int, LiveTrial] = {}
        self._shut_down = False
        self._message = ""
        self._trials: list[SimulatedTrial] = []
        self._best: tuple[float, int] | None = None  # the metric with its sign, so that less is better, and the trial
        self._total_units = 0
        self._timeline: list[tuple[float, int, int, float | None]] = []

    def run(self) -> SimulationResult:
        """Go through the whole search. For what it raises see `simulate`."""
        self._tell("initial_trials", None)
        self._fill()
        while (live := self._clock.next_arrival()) is not None:
            self._arrive(live)
            if self._conditions.interrupted():
                self._interrupt()
            self._fill()
        if self._resting:
            raise self._searcher.fault(
                f"has paused {len(self._resting)} trials, nothing else is left to run, and it has not shut down"
            )
        return self._result()

    def _fill(self) -> None:
        while (live := self._clock.next_to_start()) is not None:
            trial_id = live.trial.trial_id
            self._conditions.on_slots(self._clock.now, trial_id, begins=True)
            live.points = self._validations.points(self._searcher.validate_at(trial_id))
            self._send(live)

    def _send(self, live: LiveTrial) -> None:
        point = self._validations.next(live.points, live.validated, live.until)
        self._clock.towards(live, max(point, self._clock.reached(live)))

    def _arrive(self, live: LiveTrial) -> None:
        self._count(live)
        if (fate := self._conditions.fate(live.trial.trial_id, live.trial.units)) == "exit":
            self._end(live, TrialState.COMPLETED)
        elif fate is not None:
            self._fail(live, fate, None)
        elif self._validate(live) and live.place is Place.RUNNING:
            # Where it has to ask and the searcher has said nothing about it, it ends by itself.
            if live.trial.units >= self._validations.goal(live.until):
                self._end(live, TrialState.COMPLETED)
            else:
                self._send(live)
        self._drain()

    def _validate(self, live: LiveTrial) -> bool:
        """Whether the trial could be validated; the searcher has been told, and what it decided was done."""
        trial = live.trial
        if trial.units == live.validated:  # its goal was set back to behind where it is
            return True
        try:
            value = self._objective(dict(trial.hyperparameters), trial.inherited + trial.units)
        except InvalidHP as error:
            self._fail(live, "invalid_hp", error)
            return False
        except Exception as error:
            self._fail(live, "error", error)
            return False
        metric = _finite(value, trial)
        live.validated = trial.units
        trial.metrics.append((trial.units, metric))
        self._timeline.append((self._clock.now, trial.trial_id, trial.units, metric))
        if metric is not None:
            standing = (self._sign * metric, trial.trial_id)
            self._best = standing if self._best is None else min(self._best, standing)
        self._tell("validation_completed", trial.trial_id, trial.units, metric)
        return True

    def _interrupt(self) -> None:
        for live in tuple(self._clock.running.values()):
            self._leave(live, Place.WAITING)
            self._clock.wait(live)
        self._searcher.restart()

    def _count(self, live: LiveTrial) -> None:
        units = self._clock.reached(live)
        self._total_units += units - live.trial.units
        live.trial.units = units

    def _leave(self, live: LiveTrial, place: Place) -> None:
        if live.place is Place.RUNNING:
            self._count(live)
            self._conditions.on_slots(self._clock.now, live.trial.trial_id, begins=False)
        elif live.place is Place.RESTING:
            del self._resting[live.trial.trial_id]
        self._clock.leave(live, place)

    def _end(self, live: LiveTrial, state: TrialState, *, stopped: bool = False) -> None:
        self._close(live, state, stopped=stopped)
        self._questions.append(("trial_exited", live.trial.trial_id, None, None, None))

    def _fail(self, live: LiveTrial, reason: Failure, error: Exception | None) -> None:
        live.trial.error = error
        self._close(live, TrialState.ERROR)
        self._questions.append(("trial_failed", live.trial.trial_id, None, None, reason))

    def _close(self, live: LiveTrial, state: TrialState, *, stopped: bool = False) -> None:
        self._leave(live, Place.ENDED)
        live.trial.state, live.trial.stopped_early = state, stopped
        del self._live[live.trial.trial_id]

    def _tell(
        self, event: Question, trial_id: int | None, units: int | None = None, metric: float | None = None
    ) -> None:
        self._questions.append((event, trial_id, units, metric, None))
        self._drain()

    def _drain(self) -> None:
        while self._questions:
            question = self._questions.popleft()
            actions = self._searcher.ask(self._clock.now, *question)
            if actions:
                touched: dict[int, LiveTrial] = {}
                for action in actions:
                    self._carry_out(action, touched)
                for live in touched.values():
                    self._settle(live)

    def _carry_out(self, action: Action, touched: dict[int, LiveTrial]) -> None:
        if isinstance(action, Create):
            self._create(action)
        elif isinstance(action, Shutdown):
            self._shut_down = True
            self._message = self._message or action.why
            touched.update(self._resting)
        elif action.trial_id > len(self._trials):
            raise self._misuse(action, f"of {len(self._trials)} trials")
        elif (live := self._live.get(action.trial_id)) is not None:
            touched[action.trial_id] = live
            self._want(live, action)
        elif not isinstance(action, Stop):
            raise self._misuse(action, "of a trial that has ended")
        # else it has ended by itself in the meantime

    def _want(self, live: LiveTrial, action: Stop | Pause | Resume) -> None:
        """Note what the searcher wants of a trial; `_settle` does it when the whole answer is known."""
        if isinstance(action, Stop):
            live.stop = True
        elif isinstance(action, Pause):
            if live.rest or live.stop:
                raise self._misuse(action, f"of a trial that it has {'stopped' if live.stop else 'paused'}")
            live.rest = True
        else:
            if not live.rest:
                raise self._misuse(action, "of a trial that it has not paused")
            if action.until <= live.validated:
                raise self._misuse(action, f"of a trial that has {live.validated} units")
            live.rest, live.until = False, action.until

    def _misuse(self, action: Action, of_what: str) -> PluginError:
        return self._searcher.fault(f"wants {action} {of_what}")

    def _settle(self, live: LiveTrial) -> None:
        if live.place is Place.ENDED:
            return
        if live.stop:
            self._end(live, TrialState.COMPLETED, stopped=True)
        elif live.rest and self._shut_down:
            self._close(live, TrialState.COMPLETED, stopped=True)
        elif live.rest and live.place is not Place.RESTING:
            self._leave(live, Place.RESTING)
            live.trial.state = TrialState.PAUSED
            self._resting[live.trial.trial_id] = live
        elif not live.rest and live.place is Place.RESTING:
            del self._resting[live.trial.trial_id]
            self._clock.wait(live)
        elif live.place is Place.RUNNING and live.base < live.heading:  # else it has just arrived: see _arrive
            self._send(live)

    def _create(self, action: Create) -> None:
        if self._shut_down:
            raise self._searcher.fault("makes a trial after it has shut down")
        trial_id = len(self._trials) + 1
        trial = SimulatedTrial(
            trial_id=trial_id,
            hyperparameters=self._searcher.hparams(action, trial_id),
            bracket=self._searcher.bracket_of(trial_id),
            source=action.source,
            inherited=0 if action.source is None else self._trained(action.source),
        )
        seconds = self._seconds_per_unit * self._conditions.seconds_per_unit(trial_id)
        live = LiveTrial(trial, seconds, action.until)
        self._trials.append(trial)
        self._live[trial_id] = live
        self._clock.wait(live)

    def _trained(self, source: int) -> int:
        """The units in the weights that trial `source` had when it was validated last."""
        if source > len(self._trials) or not self._trials[source - 1].metrics:
            raise self._searcher.fault(f"makes a trial with the weights of trial {source}, which was never validated")
        trial = self._trials[source - 1]
        return trial.inherited + trial.metrics[-1][0]

    def _result(self) -> SimulationResult:
        completed = any(trial.state is TrialState.COMPLETED for trial in self._trials)
        best = None if self._best is None else self._trials[self._best[1] - 1]
        return SimulationResult(
            state="COMPLETED" if completed else "ERROR",
            message=self._message or ("" if completed else self._what_failed()),
            trials=self._trials,
            best=best,
            best_metric=None if self._best is None else self._sign * self._best[0],
            total_units=self._total_units,
            seconds=self._clock.now,
            timeline=self._timeline,
            decisions=self._searcher.decisions,
        )

    def _what_failed(self) -> str:
        if not self._trials:
            return "the searcher created no trial"
        first = next((trial for trial in self._trials if trial.error is not None), None)
        cause = "" if first is None else f"; trial {first.trial_id}: {type(first.error).__name__}: {first.error}"
        return f"every trial failed{cause}"


def _finite(value: Any, trial: SimulatedTrial) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise UsageError(
            f"The objective returned {value!r} for trial {trial.trial_id} at {trial.units} units; it must return a "
            "number."
        ) from None
    return number if math.isfinite(number) else None
