"""Searchers by name, and what they are told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mnist_trials.plugin import Action, Bracket, Searcher, SearcherContext, get_plugins

CONTEXT = SearcherContext(experiment_seed=0, sample=lambda index: {"index": index})


def make(name: str, hyperparameters: Mapping[str, Any] | None = None, **config: Any) -> Searcher:
    factory = get_plugins().find("searcher", name).factory
    searcher: Searcher = factory({"name": name, "metric": "loss", **config}, hyperparameters or {})
    return searcher


def brackets(name: str, **config: Any) -> list[Bracket]:
    found = make(name, **config).brackets()
    assert found is not None
    return list(found)


class Told:
    """A searcher that is told things in few words."""

    def __init__(self, searcher: Searcher) -> None:
        self.searcher = searcher
        self.first = list(searcher.initial_trials(CONTEXT))

    def report(self, trial_id: int, units: int, metric: float | None) -> list[Action]:
        return list(self.searcher.validation_completed(CONTEXT, trial_id, units, metric))

    def exit(self, trial_id: int) -> list[Action]:
        return list(self.searcher.trial_exited(CONTEXT, trial_id))

    def fail(self, trial_id: int, reason: str = "error") -> list[Action]:
        return list(self.searcher.trial_failed(CONTEXT, trial_id, reason))
