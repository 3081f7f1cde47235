"""What a searcher was told and decided, in sentences: who was stopped and why, and what took its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from mnist_trials.cli.trial_table import constants, hyperparameters_text
from mnist_trials.store.rows import DecisionRow, TrialRow

Row = Mapping[str, Any]
"""An action as it is stored."""


@final
@dataclass(frozen=True, slots=True)
class Terms:
    """What an experiment's searcher counts and compares in."""

    unit: str  # "batches", "epochs", "records", or the name of the time metric
    metric: str
    smaller_is_better: bool
    constants: frozenset[str]  # the hyperparameters that need not be told

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Terms:
        """The terms of an experiment's config, as the store has it."""
        searcher = config["searcher"]
        length = searcher.get("max_length") or {"batches": None}
        unit = searcher.get("time_metric") or next(iter(length))
        return cls(unit, searcher["metric"], searcher["smaller_is_better"], constants(config))

    def units(self, count: int | None) -> str:
        """`256 batches`; None is all of the training."""
        if count is None:
            return "the end"
        return f"{count} {UNIT_OF_ONE.get(self.unit, self.unit) if count == 1 else self.unit}"

    def up_to(self, threshold: float | None) -> str:
        """Up to where a metric is among those that are good enough; empty where that cannot be said."""
        if threshold is None:
            return ""
        return f", {'up to' if self.smaller_is_better else 'down to'} {number(threshold)}"


UNIT_OF_ONE = {"batches": "batch", "epochs": "epoch", "records": "record"}

_DONE = {
    "Stop": "was stopped",
    "Pause": "was paused",
    "Resume": "went on to {until}",
    "Go on": "went on to {until} without leaving its slots",
    "Shutdown": "the search ended",
}

_SHORT = {"Stop": "stopped", "Pause": "paused", "Resume": "goes on to {until}", "Go on": "goes on to {until}"}


@final
class Explainer:
    """Explains the decisions of one experiment. `trial` gives the row of a trial, for what else is to be told of it."""

    def __init__(self, experiment_id: int, terms: Terms, trial: Callable[[int], TrialRow]) -> None:
        self._experiment_id = experiment_id
        self._terms = terms
        self._trial = trial

    def sentence(self, decision: DecisionRow) -> str:
        """What the searcher was told and what it did about it."""
        actions = [action for action in _joined(decision.actions) if action["action"] != "Create"]
        parts = [self._act(decision, action) for action in actions]
        if not any(action.get("trial_id") == decision.trial_id for action in actions) or decision.trial_id is None:
            parts.insert(0, self._told(decision, acted=bool(decision.actions)))
        return "; ".join([*parts, *self._replaced(decision)])

    def created(self, decision: DecisionRow) -> Iterator[str]:
        """The trials that were made, a line for each."""
        for action in decision.actions:
            if action["action"] == "Create":
                yield self._made(action)

    def short(self, decision: DecisionRow) -> str:
        """What was done to trials that there were already, and why, in as few words as will do."""
        actions = [action for action in _joined(decision.actions) if action["action"] in _SHORT]
        parts = [f"{self.name(action['trial_id'])} {self._shortly(action)}" for action in actions]
        return "; ".join([*parts, *self._replaced(decision)])

    def hyperparameters(self, trial_id: int) -> str:
        """Those of a trial that tell it from others."""
        return hyperparameters_text(self._trial(trial_id).hparams, self._terms.constants)

    def name(self, trial_id: object) -> str:
        """`trial 3.12`."""
        return f"trial {self._experiment_id}.{trial_id}"

    def _shortly(self, action: Row) -> str:
        done = _SHORT[action["action"]].format(until=self._terms.units(action.get("until")))
        why = action.get("why")
        if isinstance(why, Mapping):
            return f"{done}: rank {why['rank']} of {why['of']} at rung {why['rung']}"
        return f"{done}: {why}" if why else done

    def _replaced(self, decision: DecisionRow) -> list[str]:
        made = [self.name(action["trial_id"]) for action in decision.actions if action["action"] == "Create"]
        if not made or decision.trial_id is None:
            return []
        return [f"{made[0]} took its place" if len(made) == 1 else f"{', '.join(made)} were created"]

    def _told(self, decision: DecisionRow, *, acted: bool) -> str:
        if decision.trial_id is None:
            return "the search began"
        name = self.name(decision.trial_id)
        if decision.event == "trial_exited":
            return f"{name} ended"
        if decision.event == "trial_failed":
            return f"{name} {_failure(decision.reason, self._trial(decision.trial_id))}"
        told = f"{name} had {self._terms.metric} {number(decision.metric)} after {self._terms.units(decision.units)}"
        return told if acted else f"{told} and went on"

    def _act(self, decision: DecisionRow, action: Row) -> str:
        done = _DONE[action["action"]].format(until=self._terms.units(action.get("until")))
        if action["action"] != "Shutdown":
            done = f"{self.name(action['trial_id'])} {done}"
        why = action.get("why")
        if not isinstance(why, Mapping):
            return f"{done}: {why}" if why else done
        judged = f"{done} {'from' if 'until' in action else 'at'} {self._judged(why)}"
        told_of_it = decision.event == "validation_completed" and action["trial_id"] == decision.trial_id
        return f"{judged}; it has {number(decision.metric)}" if told_of_it else judged

    def _judged(self, why: Row) -> str:
        kept = {0: "none goes on yet", 1: "the best one goes on"}.get(why["kept"], f"the best {why['kept']} go on")
        return (
            f"rung {why['rung']} ({self._terms.units(why['units'])}) of bracket {why['bracket']}: rank {why['rank']} "
            f"of {why['of']}, {kept}{self._terms.up_to(why['threshold'])}"
        )

    def _made(self, action: Row) -> str:
        made = f"{self.name(action['trial_id'])} was created: {self.hyperparameters(action['trial_id'])}"
        if action.get("source") is not None:
            made += f"; it starts with the weights of {self.name(action['source'])}"
        if action.get("until") is not None:
            made += f"; it trains to {self._terms.units(action['until'])} and is judged there"
        return f"{made} ({action['why']})" if isinstance(action.get("why"), str) else made


def number(value: float | None) -> str:
    """`value` in a few digits; None is a metric that was missing or not finite."""
    return "no finite value" if value is None else f"{value:.6g}"


def _joined(actions: Sequence[Row]) -> Iterator[Row]:
    """`actions`, a pause and the resume that directly takes it back as one."""
    rest = iter([*actions, None])
    action = next(rest)
    while action is not None:
        following = next(rest)
        pair = (action["action"], following["action"] if following is not None else "")
        if following is not None and pair == ("Pause", "Resume") and action["trial_id"] == following["trial_id"]:
            yield {**action, **following, "action": "Go on"}
            following = next(rest)
        else:
            yield action
        action = following


def _failure(reason: str, trial: TrialRow) -> str:
    failed = "has hyperparameters that make no sense" if reason == "invalid_hp" else "failed for good"
    what = trial.message
    if trial.error is not None:
        what = trial.error.message if reason == "invalid_hp" else f"{trial.error.type}: {trial.error.message}"
    first = what.partition("\n")[0]
    return f"{failed} ({first})" if first else failed
