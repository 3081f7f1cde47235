"""The searcher of a simulation: asked as the controller asks it, each answer on record, and restored in mid-run."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, final

from mnist_trials.errors import PluginError
from mnist_trials.experiment.simulation.records import Decision, Failure, Question
from mnist_trials.experiment.wording import check
from mnist_trials.plugin.searcher import Action, Create, Searcher, SearcherContext


@final
class SimulatedSearcher:
    """Foreign code: whatever it raises becomes a PluginError that names it."""

    def __init__(self, name: str, make: Callable[[], Searcher], context: SearcherContext) -> None:
        self._name = name
        self._make = make
        self._context = context
        self._searcher = make()
        self._snapshot: str | None = None
        self._replay_from = 0  # the first decision after the snapshot
        self.decisions: list[Decision] = []

    def ask(
        self,
        time: float,
        event: Question,
        trial_id: int | None = None,
        units: int | None = None,
        metric: float | None = None,
        reason: Failure | None = None,
    ) -> tuple[Action, ...]:
        """Tell of one event; the answer is put on record."""
        actions = self._answer(event, trial_id, units, metric, reason)
        self.decisions.append(Decision(time, event, trial_id, units, metric, actions, reason))
        return actions

    def hparams(self, action: Create, trial_id: int) -> dict[str, Any]:
        """The hyperparameters of the trial that `action` makes."""
        if action.hparams is None:
            return self._context.sample(trial_id)
        try:
            json.dumps(action.hparams, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise self.fault(f"made hyperparameters that are no strict JSON: {error}") from error
        return dict(action.hparams)

    def bracket_of(self, trial_id: int) -> int:
        """See `Searcher`."""
        return int(self._call(self._searcher.bracket_of, trial_id))

    def validate_at(self, trial_id: int) -> tuple[int, ...]:
        """See `Searcher`; rising."""
        return tuple(sorted(set(self._call(self._searcher.validate_at, trial_id))))

    def restart(self) -> None:
        """Go on with a new instance, as after the death of the controller: the last snapshot, then what came after it.

        Raises:
            PluginError: the new one decides otherwise than the old one did.
        """
        self._searcher = self._make()
        if self._snapshot is not None:
            self._call(self._searcher.restore, json.loads(self._snapshot))
        for decision in self.decisions[self._replay_from :]:
            _, event, trial_id, units, metric, actions, reason = decision
            again = self._answer(event, trial_id, units, metric, reason)
            if again != actions:
                raise self.fault(f"decides otherwise when it is restored: {again}, and it was {actions} ({decision})")
        self._snapshot = self._text_of(self._call(self._searcher.snapshot))
        self._replay_from = len(self.decisions)

    def fault(self, what: str) -> PluginError:
        """The error that says what the searcher did wrong."""
        return PluginError(f"The searcher '{self._name}' {what}.")

    def _answer(
        self, event: Question, trial_id: int | None, units: int | None, metric: float | None, reason: Failure | None
    ) -> tuple[Action, ...]:
        searcher, context = self._searcher, self._context
        if event == "validation_completed":
            answer = self._call(searcher.validation_completed, context, trial_id, units, metric)
        elif event == "trial_exited":
            answer = self._call(searcher.trial_exited, context, trial_id)
        elif event == "trial_failed":
            answer = self._call(searcher.trial_failed, context, trial_id, reason)
        else:
            answer = self._call(searcher.initial_trials, context)
        return tuple(check(self._name, answer)) if answer != () else ()

    def _text_of(self, snapshot: Any) -> str:
        try:
            return json.dumps(snapshot, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise self.fault(f"has a snapshot that is no strict JSON: {error}") from error

    def _call(self, method: Callable[..., Any], *arguments: object) -> Any:
        try:
            return method(*arguments)
        except (Exception, SystemExit) as error:
            name = getattr(method, "__name__", "a method")
            raise self.fault(f"failed in {name}: {type(error).__name__}: {error}") from error
