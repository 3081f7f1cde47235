"""Any config that loads survives `to_dict` and `from_dict`, and satisfies the schema; no input breaks the loader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mnist_trials.config import ExperimentConfig, load, sample
from mnist_trials.config.json_schema import json_schema
from mnist_trials.config.nodes import Place, plain
from mnist_trials.config.reader import read_yaml
from mnist_trials.config.report import Report
from mnist_trials.errors import ConfigError

SCHEMA = jsonschema.Draft7Validator(json_schema())

WORDS = st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=20)
NAMES = WORDS.map(lambda name: name.replace(".", "_"))
SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | WORDS
FINITE = SCALARS.filter(lambda value: value not in (float("inf"), float("-inf")))
JSON = st.recursive(FINITE, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3))
COUNT = st.integers(1, 10**6)
LENGTH = st.sampled_from(["batches", "epochs", "records"]).flatmap(lambda unit: st.fixed_dictionaries({unit: COUNT}))


def bounds(of: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    pairs = st.tuples(of, of).filter(lambda pair: pair[0] != pair[1]).map(sorted)
    return pairs.map(lambda pair: {"minval": pair[0], "maxval": pair[1]})


RANGES = st.one_of(
    bounds(st.integers(-1000, 1000)).map(lambda ends: {"type": "int", **ends}),
    bounds(st.floats(-10, 10)).map(lambda ends: {"type": "double", "count": 3, **ends}),
    bounds(st.floats(-10, 10)).map(lambda ends: {"type": "log", "base": 2, **ends}),
    st.lists(JSON, min_size=1, max_size=3).map(lambda values: {"type": "categorical", "vals": values}),
    JSON.map(lambda value: {"type": "const", "val": value}),
)
HYPERPARAMETERS = st.dictionaries(NAMES, FINITE | RANGES | st.dictionaries(NAMES, FINITE | RANGES, max_size=2))


def without_type(space: dict[str, Any]) -> bool:
    """Whether no group has a hyperparameter called `type`, which would make it something else."""
    return all(
        "type" not in value or value["type"] in RANGE_TYPES for value in space.values() if isinstance(value, dict)
    )


RANGE_TYPES = ("const", "int", "double", "log", "categorical")
PLUGIN = WORDS | st.fixed_dictionaries({"name": WORDS}, optional={"option": JSON})
PERIODS = LENGTH | COUNT | st.lists(LENGTH, min_size=1, max_size=3)
CONFIGS = st.fixed_dictionaries(
    {
        "entrypoint": st.sampled_from(["m:T", "python3 train.py", "a && b"]) | st.lists(WORDS, min_size=1),
        "searcher": st.fixed_dictionaries(
            {"name": st.just("random"), "metric": WORDS, "max_trials": COUNT, "max_length": LENGTH | COUNT},
            optional={"smaller_is_better": st.booleans(), "max_concurrent_trials": COUNT},
        ),
    },
    optional={
        "name": WORDS,
        "labels": st.lists(WORDS, max_size=3),
        "hyperparameters": HYPERPARAMETERS.filter(without_type),
        "data": st.dictionaries(NAMES, JSON, max_size=3),
        "resources": st.fixed_dictionaries(
            {}, optional={"slots_per_trial": st.just(2), "is_single_node": st.booleans()}
        ),
        "checkpoint_storage": st.fixed_dictionaries(
            {}, optional={"save_trial_best": COUNT, "max_checkpoint_bytes": st.none() | COUNT}
        )
        | st.fixed_dictionaries({"type": st.just("directory"), "container_path": WORDS}),
        "min_validation_period": PERIODS,
        "min_checkpoint_period": PERIODS,
        "limit_batches": COUNT | st.fixed_dictionaries({"training": COUNT}, optional={"validation": COUNT}),
        "loss_scale": st.floats(0.001, 1e6) | COUNT | st.just("none"),
        "max_restarts": COUNT,
        "profiling": st.booleans() | st.fixed_dictionaries({"enabled": st.booleans()}),
        "backend": PLUGIN,
        "launcher": PLUGIN,
        "loggers": st.lists(PLUGIN, max_size=2),
        "compile": st.booleans() | st.just("program"),
        "reproducibility": st.fixed_dictionaries({"experiment_seed": st.integers(0, 2**31 - 1)}),
    },
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(CONFIGS)
def test_a_config_survives_to_dict_and_from_dict(mapping: dict[str, Any]) -> None:
    config = load(mapping).config

    document = config.to_dict()

    assert ExperimentConfig.from_dict(document) == config
    assert ExperimentConfig.from_dict(json.loads(json.dumps(document, allow_nan=False))).to_dict() == document
    SCHEMA.validate(mapping)
    SCHEMA.validate(document)
    assert sample(config.hyperparameters, 0, 1) == sample(config.to_dict()["hyperparameters"], 0, 1)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(CONFIGS)
def test_a_config_as_json_text_reads_as_the_map_it_was_made_of(mapping: dict[str, Any]) -> None:
    report = Report()

    root = read_yaml(json.dumps(mapping, ensure_ascii=False), "x", report)

    report.check()
    assert root is not None
    assert root.place == Place("x", 1, 1)
    assert repr(plain(root)) == repr(mapping)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(alphabet="a:b-[]{},&*!|>'\"#%@`?~. \n\t\r0123456789eE+_\0é", max_size=60))
def test_no_text_makes_the_loader_fail_otherwise_than_by_its_own_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(text.encode())

    with pytest.raises(ConfigError) as caught:
        load(path, [f"data.x={text}"])

    assert caught.value.problems


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(list(json_schema()["properties"])), JSON | RANGES))
def test_no_value_of_a_known_key_makes_the_loader_fail_otherwise_than_by_its_own_error(values: dict[str, Any]) -> None:
    searcher = {"name": "single", "metric": "m", "max_length": 1}
    mapping = {"entrypoint": "m:T", "searcher": searcher, **values}
    try:
        load(mapping)
    except ConfigError:
        return
    SCHEMA.validate(mapping)
