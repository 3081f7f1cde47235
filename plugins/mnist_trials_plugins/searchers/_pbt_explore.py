"""How population based training changes the hyperparameters of a copy."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from random import Random
from typing import Any

from mnist_trials.config.hyperparameters import ranges


def explore(
    hparams: Mapping[str, Any],
    hyperparameters: Mapping[str, Any],
    fresh: Mapping[str, Any],
    *,
    key: str,
    resample_probability: float,
    perturb_factor: float,
) -> dict[str, Any]:
    """A copy of `hparams` in which every range of the section `hyperparameters` has taken a step.

    With `resample_probability` it takes its value in `fresh`, another sample of the whole section; else `perturbed` is
    asked, down or up with the same chance. The same arguments give the same step.
    """
    explored = copy.deepcopy(dict(hparams))
    for path, leaf in ranges(hyperparameters):
        dice = Random(f"{key}/{path}")  # noqa: S311
        *groups, name = path.split(".")
        old: Any = explored
        new: Any = fresh
        for group in groups:
            old, new = old[group], new[group]
        resampled, up = dice.random() < resample_probability, dice.random() < 0.5
        factor = 1.0 + perturb_factor if up else 1.0 - perturb_factor
        old[name] = copy.deepcopy(new[name]) if resampled else perturbed(old[name], leaf, factor)
    return explored


def perturbed(value: Any, leaf: Mapping[str, Any], factor: float) -> Any:
    """`value` times `factor`, within the range `leaf`. An `int` is rounded away from `value`, so that it moves.

    A value of a `categorical` range stays: there is no more and no less among them.
    """
    if leaf["type"] == "categorical":
        return value
    moved = value * factor
    if leaf["type"] == "int":
        moved = math.floor(moved) if moved < value else math.ceil(moved)
    low, high = _ends(leaf)
    return min(max(moved, low), high)


def _ends(leaf: Mapping[str, Any]) -> tuple[float, float]:
    low, high = leaf["minval"], leaf["maxval"]
    if leaf["type"] != "log":
        return low, high
    base = leaf.get("base", 10.0)
    low, high = sorted((float(base**low), float(base**high)))
    return low, high
