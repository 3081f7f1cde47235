"""The searcher as the controller sees it: asked by event, its decisions written down, its state stored."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, final

from mnist_trials.config import ExperimentConfig, sample
from mnist_trials.errors import PluginError
from mnist_trials.experiment.wording import Question, check
from mnist_trials.plugin.searcher import Action, Create, Searcher, SearcherContext
from mnist_trials.store.transaction import Transaction

_CHARACTERS_PER_DECISION = 1000  # of a snapshot: so much more than a decision takes is not written for each


@final
class Search:
    """One experiment's searcher. Foreign code: whatever it raises becomes a PluginError that names it.

    Every decision is stored with the event that it answers; a snapshot only when there are as many decisions since the
    last one as that had thousands of characters. So a small searcher has one stored each time, and a decision does not
    cost more the larger the searcher is. The decisions since then are replayed (see `replay`).
    """

    def __init__(self, searcher: Searcher, config: ExperimentConfig) -> None:
        self.name = config.searcher.name
        self._searcher = searcher
        self._context = SearcherContext(
            experiment_seed=config.experiment_seed,
            sample=lambda index: sample(config.hyperparameters, config.experiment_seed, index),
        )
        self.begun = False
        self.shut_down = False
        self.why = ""  # it has shut down before its time
        self._last_decision = 0
        self._since_snapshot = 0
        self._characters = 0  # of the last snapshot

    def ask(self, question: Question) -> list[Action]:
        """What the searcher answers.

        Raises:
            PluginError: it fails, or what it returns are no actions.
        """
        self.begun = True
        method = getattr(self._searcher, question.event)
        return check(self.name, self._call(method, self._context, *question.arguments()))

    def hparams(self, action: Create, trial_id: int) -> dict[str, Any]:
        """The hyperparameters of the trial that `action` makes."""
        if action.hparams is None:
            return self._context.sample(trial_id)
        try:
            json.dumps(action.hparams, allow_nan=False)
            return dict(action.hparams)
        except (TypeError, ValueError) as error:
            raise PluginError(
                f"The searcher '{self.name}' made hyperparameters that are no strict JSON: {error}."
            ) from error

    def validate_at(self, trial_id: int) -> tuple[int, ...]:
        """The units at which that trial must be validated, rising."""
        points: Sequence[int] = self._call(self._searcher.validate_at, trial_id)
        try:
            return tuple(sorted({_point(point) for point in points}))
        except TypeError as error:
            raise PluginError(
                f"The searcher '{self.name}' wants trial {trial_id} validated at {points!r}, which are no whole "
                "numbers of at least 1."
            ) from error

    def progress(self) -> float:
        """The share of the search that is done, 0 to 1.

        Raises:
            PluginError: the searcher fails, or what it returns is no number.
        """
        done = self._call(self._searcher.progress)
        if not isinstance(done, int | float) or math.isnan(done):
            raise PluginError(f"The searcher '{self.name}' says that its progress is {done!r}: not a number.")
        return min(max(float(done), 0.0), 1.0)

    def decided(self, decision: int) -> None:
        """Take note of the id of the last decision that was stored."""
        self._last_decision = decision
        self._since_snapshot += 1

    def save_if_due(self, transaction: Transaction, experiment_id: int) -> None:
        """Store a snapshot if there are enough decisions since the last one."""
        if self._since_snapshot * _CHARACTERS_PER_DECISION >= self._characters:
            self.save(transaction, experiment_id)

    def save(self, transaction: Transaction, experiment_id: int) -> None:
        """Store a snapshot, unless there was no decision since the last one."""
        if not self._since_snapshot:
            return
        snapshot = self._call(self._searcher.snapshot)
        if not isinstance(snapshot, Mapping):
            raise PluginError(f"The searcher '{self.name}' has a snapshot that is no mapping: {snapshot!r}.")
        try:
            self._characters = transaction.save_searcher(experiment_id, snapshot, self.shut_down, self._last_decision)
        except (TypeError, ValueError) as error:
            raise PluginError(f"The searcher '{self.name}' has a snapshot that is no strict JSON: {error}.") from error
        self._since_snapshot = 0

    def restore(self, snapshot: Mapping[str, Any], shut_down: bool) -> None:
        """Go back to a snapshot."""
        self._call(self._searcher.restore, snapshot)
        self.begun = True
        self.shut_down = shut_down

    def _call(self, method: Callable[..., Any], *arguments: object) -> Any:
        try:
            answer = method(*arguments)
            return list(answer) if isinstance(answer, Iterator) else answer  # a generator's code runs only now
        except (Exception, SystemExit) as error:
            raise PluginError(
                f"The searcher '{self.name}' failed in {method.__name__}: {type(error).__name__}: {error}"
            ) from error


def _point(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise TypeError(f"{value!r} is no whole number of at least 1")
    return value
