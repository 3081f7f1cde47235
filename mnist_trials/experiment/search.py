"""The searcher as the controller sees it: asked by event, its decisions written down, its state stored."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

from mnist_trials.config import ExperimentConfig, sample
from mnist_trials.errors import PluginError
from mnist_trials.events import ValidationCompleted
from mnist_trials.plugin.searcher import Action, Create, Pause, Resume, Searcher, SearcherContext, Shutdown, Stop
from mnist_trials.store.writer import Transaction
from mnist_trials.units import Epoch, Record


@final
class Search:
    """One experiment's searcher. Foreign code: whatever it raises becomes a PluginError that names it."""

    def __init__(self, searcher: Searcher, config: ExperimentConfig) -> None:
        self._searcher = searcher
        self._config = config
        self._context = SearcherContext(
            experiment_seed=config.experiment_seed,
            sample=lambda index: sample(config.hyperparameters, config.experiment_seed, index),
        )
        self.begun = False
        self.shut_down = False

    def hparams(self, action: Create, trial_id: int) -> dict[str, Any]:
        """The hyperparameters of the trial that `action` makes."""
        if action.hparams is None:
            return self._context.sample(trial_id)
        try:
            json.dumps(action.hparams, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise PluginError(
                f"The searcher '{self._config.searcher.name}' made hyperparameters that are no strict JSON: {error}."
            ) from error
        return dict(action.hparams)

    def initial_trials(self) -> Sequence[Action]:
        """The first trials; called once in the life of an experiment."""
        self.begun = True
        return self._ask(self._searcher.initial_trials, self._context)

    def validation_completed(self, trial_id: int, units: int, metric: float | None) -> Sequence[Action]:
        """See `Searcher`."""
        return self._ask(self._searcher.validation_completed, self._context, trial_id, units, metric)

    def trial_exited(self, trial_id: int) -> Sequence[Action]:
        """See `Searcher`."""
        return self._ask(self._searcher.trial_exited, self._context, trial_id)

    def trial_failed(self, trial_id: int, reason: str) -> Sequence[Action]:
        """See `Searcher`."""
        return self._ask(self._searcher.trial_failed, self._context, trial_id, reason)

    def units(self, event: ValidationCompleted) -> int:
        """How far the trial is, in the searcher's unit; a part of an epoch does not count."""
        unit = self._config.searcher.max_length
        if isinstance(unit, Epoch):
            return int(event.epochs + 1e-6)
        return event.records if isinstance(unit, Record) else event.batches

    def progress(self) -> float:
        """The share of the search that is done."""
        return float(self._call(self._searcher.progress))

    def save(self, transaction: Transaction, experiment_id: int) -> None:
        """Store the searcher's state with what changed it."""
        snapshot = self._call(self._searcher.snapshot)
        try:
            transaction.save_searcher(experiment_id, snapshot, self.shut_down)
        except (TypeError, ValueError) as error:
            raise PluginError(
                f"The searcher '{self._config.searcher.name}' has a snapshot that is no strict JSON: {error}."
            ) from error

    def restore(self, snapshot: Mapping[str, Any], shut_down: bool) -> None:
        """Go back to what was stored."""
        self._call(self._searcher.restore, snapshot)
        self.begun = True
        self.shut_down = shut_down

    def _ask(self, method: Callable[..., Sequence[Action]], *arguments: object) -> list[Action]:
        actions = list(self._call(method, *arguments))
        for action in actions:
            if isinstance(action, Pause | Resume):
                raise PluginError(
                    f"The searcher '{self._config.searcher.name}' wants to {type(action).__name__.lower()} trial "
                    f"{action.trial_id}: this version cannot do that yet, only create, stop and shut down."
                )
            if not isinstance(action, Create | Stop | Shutdown):
                raise PluginError(f"The searcher '{self._config.searcher.name}' returned {action!r}: not an action.")
        return actions

    def _call(self, method: Callable[..., Any], *arguments: object) -> Any:
        try:
            return method(*arguments)
        except Exception as error:
            raise PluginError(
                f"The searcher '{self._config.searcher.name}' failed in {method.__name__}: "
                f"{type(error).__name__}: {error}"
            ) from error
