"""Hyperparameters and seeds of a trial: functions of the experiment's seed and the trial's number alone.

Every hyperparameter draws from a SHA-256 digest of (seed, number, its own path). So a draw depends neither on the
order of keys, nor on what else is drawn, nor on the Python version.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from mnist_trials.config.hyperparameters import leaf_type


def sample(hyperparameters: Mapping[str, Any], experiment_seed: int, index: int) -> dict[str, Any]:
    """The hyperparameters of trial `index`, nested as they are in the config.

    `int` takes either end too, `double` is uniform, `log` is the base to a uniform exponent, `categorical` takes one of
    its values, all alike. `hyperparameters` is the section as `ExperimentConfig` holds it.
    """
    return _group(hyperparameters, experiment_seed, (index,))


def trial_seed(experiment_seed: int, trial_id: int) -> int:
    """The seed of a trial, from 0 to 2**31 - 1."""
    return _draw("trial seed", experiment_seed, trial_id) % 2**31


def _group(values: Mapping[str, Any], seed: int, path: tuple[Any, ...]) -> dict[str, Any]:
    return {name: _value(value, seed, (*path, name)) for name, value in values.items()}


def _value(value: Any, seed: int, path: tuple[Any, ...]) -> Any:
    kind = leaf_type(value)
    if kind is None:
        return _group(value, seed, path) if isinstance(value, Mapping) else _copy(value)
    if kind == "const":
        return _copy(value["val"])
    draw = _draw("hyperparameter", seed, *path)
    if kind == "int":
        return value["minval"] + draw % (value["maxval"] - value["minval"] + 1)
    if kind == "categorical":
        return _copy(value["vals"][draw % len(value["vals"])])
    number = _between(value["minval"], value["maxval"], draw)
    return number if kind == "double" else float(value.get("base", 10.0) ** number)


def _draw(*what: Any) -> int:
    """A number from 0 to 2**256 - 1."""
    return int.from_bytes(hashlib.sha256(json.dumps(what).encode()).digest())


def _between(low: float, high: float, draw: int) -> float:
    share = (draw >> 203) / 2**53
    return min(max(low * (1.0 - share) + high * share, low), high)


def _copy(value: Any) -> Any:
    """A copy that shares no list or map with the config."""
    if isinstance(value, Mapping):
        return {name: _copy(item) for name, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list | tuple) else value
