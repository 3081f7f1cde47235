"""Hyperparameters and seeds of a trial: functions of the experiment's seed and the trial's number alone.

Where a range is of real numbers, every hyperparameter draws from a SHA-256 digest of (seed, number, its own path). So a
draw depends neither on the order of keys, nor on what else is drawn, nor on the Python version. Where there are only
finitely many points, they are gone through in an order that the seed decides: none comes again before all have come.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from mnist_trials.config.hyperparameters import ranges
from mnist_trials.config.space import fill, permuted, point, points


def sample(hyperparameters: Mapping[str, Any], experiment_seed: int, index: int) -> dict[str, Any]:
    """The hyperparameters of trial `index`, which counts from 1, nested as they are in the config.

    `int` takes either end too, `double` is uniform, `log` is the base to a uniform exponent, `categorical` takes one of
    its values, all alike. `hyperparameters` is the section as `ExperimentConfig` holds it.
    """
    size = points(hyperparameters)
    if size is None:
        values = {
            path: _value(leaf, _draw("hyperparameter", experiment_seed, index, *path.split(".")))
            for path, leaf in ranges(hyperparameters)
        }
    else:
        cycle, place = divmod(index - 1, size)
        values = point(hyperparameters, permuted(place, size, "point", experiment_seed, cycle))
    return fill(hyperparameters, values)


def trial_seed(experiment_seed: int, trial_id: int) -> int:
    """The seed of a trial, from 0 to 2**31 - 1."""
    return _draw("trial seed", experiment_seed, trial_id) % 2**31


def _value(leaf: Mapping[str, Any], draw: int) -> Any:
    kind = leaf["type"]
    if kind == "int":
        return leaf["minval"] + draw % (leaf["maxval"] - leaf["minval"] + 1)
    if kind == "categorical":
        return leaf["vals"][draw % len(leaf["vals"])]
    number = _between(leaf["minval"], leaf["maxval"], draw)
    return number if kind == "double" else float(leaf.get("base", 10.0) ** number)


def _draw(*what: Any) -> int:
    """A number from 0 to 2**256 - 1."""
    return int.from_bytes(hashlib.sha256(json.dumps(what).encode()).digest())


def _between(low: float, high: float, draw: int) -> float:
    share = (draw >> 203) / 2**53
    return min(max(low * (1.0 - share) + high * share, low), high)
