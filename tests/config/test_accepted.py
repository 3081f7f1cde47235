"""Every config of accepted.yaml loads, to exactly these values and warnings; and its resolved form is a config too."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

import jsonschema

from mnist_trials.config import ExperimentConfig, load
from mnist_trials.config.json_schema import json_schema

SCHEMA = jsonschema.Draft7Validator(json_schema())


def at(document: dict[str, Any], path: str) -> Any:
    return reduce(lambda value, name: value[name], path.split("."), document)


def same(left: Any, right: Any) -> bool:
    """Equal in type too: 1, 1.0 and true are three things."""
    return json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)


def test_a_config_loads_to_its_values_and_warnings(
    accepted: dict[str, Any], write: Callable[[str], Path], base: str
) -> None:
    path = write(accepted.get("config") or base + accepted["add"])

    loaded = load(path, accepted.get("overrides", ()))

    document = loaded.config.to_dict()
    different = {
        key: at(document, key) for key, value in accepted["gives"].items() if not same(at(document, key), value)
    }
    assert not different
    assert [text.replace(str(path), "CONFIG") for text in loaded.warnings] == accepted.get("warns", [])


def test_the_resolved_form_is_a_config_that_means_the_same_and_satisfies_the_schema(
    accepted: dict[str, Any], write: Callable[[str], Path], base: str
) -> None:
    path = write(accepted.get("config") or base + accepted["add"])
    config = load(path, accepted.get("overrides", ())).config

    document = config.to_dict()

    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert ExperimentConfig.from_dict(document) == config
    assert load(write(json.dumps(document))).config == config
    SCHEMA.validate(document)
