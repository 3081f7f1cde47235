"""Searches on a simulated clock whose searcher answers by a script."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mnist_trials.config import load
from mnist_trials.experiment.simulation.records import Conditions, SimulationResult
from mnist_trials.experiment.simulation.search import Simulation
from mnist_trials.plugin import Action, Searcher, SearcherContext

LR = {"type": "double", "minval": 0.0, "maxval": 1.0}


def config(*, length: object = 12, name: str = "single", **rest: Any) -> dict[str, Any]:
    """A config; `searcher` and other sections in `rest` come on top."""
    searcher = {"name": name, "metric": "loss", "max_length": length, **rest.pop("searcher", {})}
    return {"entrypoint": "python3 train.py", "hyperparameters": {"lr": LR}, "searcher": searcher, **rest}


class Told(Searcher):
    """Answers as `answer` says: from the event, the trial, and what else is told of it."""

    def __init__(self, answer: Callable[..., Sequence[Action]]) -> None:
        self.answer = answer

    def initial_trials(self, ctx: SearcherContext) -> Sequence[Action]:
        return self.answer("initial_trials", 0)

    def validation_completed(self, ctx: SearcherContext, trial_id: int, units: int, metric: Any) -> Sequence[Action]:
        return self.answer("validation_completed", trial_id, units)

    def trial_exited(self, ctx: SearcherContext, trial_id: int) -> Sequence[Action]:
        return self.answer("trial_exited", trial_id)

    def trial_failed(self, ctx: SearcherContext, trial_id: int, reason: str) -> Sequence[Action]:
        return self.answer("trial_failed", trial_id, reason)

    def progress(self) -> float:
        return 0.0

    def snapshot(self) -> dict[str, Any]:
        return {}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        pass


def play(
    script: Mapping[tuple[Any, ...], Sequence[Action]],
    *,
    slots: int = 1,
    conditions: Conditions | None = None,
    objective: Callable[[dict[str, Any], int], float] = lambda hparams, units: 1 / units,
    **rest: Any,
) -> SimulationResult:
    """A simulation with a searcher that answers by `script` and else not at all."""
    given = load(config(**rest)).config
    make = lambda: Told(lambda *event: script.get(event, ()))  # noqa: E731
    return Simulation(given, objective, slots=slots, conditions=conditions, make=make).run()


BEGIN = ("initial_trials", 0)
DONE = "validation_completed"


class Slow(Conditions):
    """Trial 1 takes four times as long."""

    def seconds_per_unit(self, trial_id: int) -> float:
        return 4.0 if trial_id == 1 else 1.0
