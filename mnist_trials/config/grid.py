"""The grid of a space of hyperparameters: its points, by number.

Ranges are sorted by dotted path, and the first varies slowest. The values of each are evenly spaced from end to end,
both included, those of `log` in the exponent; one alone is the midpoint.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from mnist_trials.config.hyperparameters import ranges
from mnist_trials.config.space import by_path, distinct, fill


def grid_points(hyperparameters: Mapping[str, Any]) -> int:
    """How many points the grid has; 1 without any range. Each range but a categorical one must say its `count`."""
    return math.prod(axis_length(leaf) for _, leaf in ranges(hyperparameters))


def grid_point(hyperparameters: Mapping[str, Any], number: int) -> dict[str, Any]:
    """The hyperparameters at point `number`, from 0 to `grid_points(hyperparameters)` - 1."""
    values = {}
    for path, leaf in by_path(hyperparameters):
        number, place = divmod(number, axis_length(leaf))
        values[path] = _value(leaf, place)
    return fill(hyperparameters, values)


def axis_length(leaf: Mapping[str, Any]) -> int:
    """How many values the grid takes from a range that says its `count`: of whole numbers, no more than there are."""
    if leaf["type"] == "categorical":
        return len(distinct(leaf["vals"]))
    count: int = leaf["count"]
    return min(count, int(leaf["maxval"] - leaf["minval"] + 1)) if leaf["type"] == "int" else count


def _value(leaf: Mapping[str, Any], place: int) -> Any:
    if leaf["type"] == "categorical":
        return distinct(leaf["vals"])[place]
    # The ends as they were written: from 0.1 to 0.3 the midpoint is then 0.2, and not the float next to it.
    low, high = Fraction(str(leaf["minval"])), Fraction(str(leaf["maxval"]))
    count = axis_length(leaf)
    value = (low + high) / 2 if count == 1 else low + (high - low) * place / (count - 1)
    if leaf["type"] == "int":
        return _rounded(value)
    return float(value) if leaf["type"] == "double" else float(leaf.get("base", 10.0) ** float(value))


def _rounded(value: Fraction) -> int:
    """The nearest whole number; halves go away from zero."""
    size = math.floor(abs(value) + Fraction(1, 2))
    return size if value >= 0 else -size
