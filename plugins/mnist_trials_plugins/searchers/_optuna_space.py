"""The `hyperparameters` section as Optuna sees it: a flat space, by dotted path, of four kinds of ranges."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, final

from mnist_trials.config.grid import axis_length, grid_point
from mnist_trials.config.hyperparameters import ranges
from mnist_trials.config.rules import MAX_GRID_POINTS
from mnist_trials.config.space import fill
from mnist_trials.errors import PluginError

Suggested = Mapping[str, Any]
"""What Optuna deals in, by dotted path: the number of an `int` or `double`, the exponent of a `log`, and the place of a
`categorical` value among its values, so that these may be anything."""


@final
class Space:
    """The ranges of a resolved section.

    With `listed`, for samplers that go through a finite space, each range is a list of values: those that `grid` takes.
    """

    def __init__(self, hyperparameters: Mapping[str, Any], *, listed: bool) -> None:
        self._hyperparameters = hyperparameters
        self.ranges = dict(ranges(hyperparameters))
        self.points: int | None = None
        if listed:
            counted = {path: _counted(path, leaf) for path, leaf in self.ranges.items()}
            self.points = _bounded(math.prod(map(axis_length, counted.values())))
            self.ranges = {path: _listed(leaf) for path, leaf in counted.items()}

    def hparams(self, suggested: Suggested) -> dict[str, Any]:
        """A trial's hyperparameters."""
        values = {path: _value(leaf, suggested[path]) for path, leaf in self.ranges.items()}
        return fill(self._hyperparameters, values)


def _counted(path: str, leaf: Mapping[str, Any]) -> Mapping[str, Any]:
    if leaf["type"] == "int":
        return {"count": leaf["maxval"] - leaf["minval"] + 1, **leaf}
    if leaf["type"] != "categorical" and "count" not in leaf:
        raise PluginError(f"'hyperparameters.{path}' needs 'count' here: how many of its values are tried.")
    return leaf


def _bounded(points: int) -> int:
    if points > MAX_GRID_POINTS:
        raise PluginError(
            f"The hyperparameters have {points:,} points, and {MAX_GRID_POINTS:,} are allowed. Lower some 'count', or "
            "take another sampler."
        )
    return points


def _listed(leaf: Mapping[str, Any]) -> Mapping[str, Any]:
    """The values that `grid` takes, as a categorical range."""
    return {"type": "categorical", "vals": [grid_point({"x": leaf}, place)["x"] for place in range(axis_length(leaf))]}


def _value(leaf: Mapping[str, Any], suggested: Any) -> Any:
    match leaf["type"]:
        case "categorical":
            return leaf["vals"][suggested]
        case "int":
            return min(max(int(suggested), leaf["minval"]), leaf["maxval"])
        case "double":
            return min(max(float(suggested), leaf["minval"]), leaf["maxval"])
        case _:
            return float(leaf.get("base", 10.0) ** float(suggested))
