"""The JSON Schema of a config, for editors: they complete keys and underline mistakes with it."""

from __future__ import annotations

from typing import Any

from mnist_trials.config.hyperparameters import definitions
from mnist_trials.config.keys import EXPERIMENT


def json_schema() -> dict[str, Any]:
    """The schema (draft 7), made from the table of keys.

    It takes every config that loads. It cannot say all that loading checks: what several sections say together, and
    duplicate keys, aliases and tags of YAML.
    """
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "mnist-trials experiment config",
        **EXPERIMENT.json_schema(),
        "definitions": definitions(),
    }
