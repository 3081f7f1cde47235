"""`random`: trials with random hyperparameters, all trained to the full length.

As many as `max_trials`, or as there are different hyperparameters if these are fewer: none comes twice. A trial that
failed counts as made. One whose hyperparameters were invalid does not and is replaced, at most `max_trials` times.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mnist_trials.config.space import points
from mnist_trials.plugin import Create, PluginRecord, Searcher, hookimpl
from mnist_trials_plugins.searchers._full_length import FullLengthPlan, FullLengthSearcher
from mnist_trials_plugins.searchers._halving import full_length


def _make(config: Mapping[str, Any], hyperparameters: Mapping[str, Any]) -> Searcher:
    most = points(hyperparameters)
    trials = config["max_trials"] if most is None else min(config["max_trials"], most)
    plan = FullLengthPlan(
        trials=trials,
        most=most,
        places=config.get("max_concurrent_trials", 16) or trials,
        length=full_length(config),
        create=lambda _: Create(),
        replaces_invalid=True,
    )
    return FullLengthSearcher(plan)


@hookimpl
def mnist_trials_searchers() -> Iterable[PluginRecord[Searcher]]:
    """The searcher `random`."""
    return [PluginRecord("random", "random hyperparameters, every trial to its full length", _make)]
