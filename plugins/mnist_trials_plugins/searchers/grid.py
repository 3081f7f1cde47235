"""`grid`: one trial at every point of the grid, all trained to the full length.

Each range gives `count` values, evenly spaced from end to end, those of `log` in the exponent; whole numbers are
rounded, halves away from zero, and `count` is cut to as many as there are. A `count` of 1 is the midpoint. Names are
sorted by dotted path and the first varies slowest. Without any range there is one trial. A point that failed or is
invalid is not replaced.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mnist_trials.config.grid import grid_point, grid_points
from mnist_trials.plugin import Create, PluginRecord, Searcher, hookimpl
from mnist_trials_plugins.searchers._full_length import FullLengthPlan, FullLengthSearcher
from mnist_trials_plugins.searchers._halving import full_length


def _make(config: Mapping[str, Any], hyperparameters: Mapping[str, Any]) -> Searcher:
    trials = grid_points(hyperparameters)
    plan = FullLengthPlan(
        trials=trials,
        most=trials,
        places=config.get("max_concurrent_trials", 16) or trials,
        length=full_length(config),
        create=lambda trial_id: Create(grid_point(hyperparameters, trial_id - 1)),
        replaces_invalid=False,
    )
    return FullLengthSearcher(plan)


@hookimpl
def mnist_trials_searchers() -> Iterable[PluginRecord[Searcher]]:
    """The searcher `grid`."""
    return [PluginRecord("grid", "every point of a grid, every trial to its full length", _make)]
