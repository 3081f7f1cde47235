"""The schema file, the documentation and the table of keys say the same."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from mnist_trials.config import ExperimentConfig, Loaded, load
from mnist_trials.config.documents import PAGE, SCHEMA, all_foreign, all_keys, page_text, schema_text, write
from mnist_trials.config.hyperparameters import LEAVES
from mnist_trials.config.json_schema import json_schema
from mnist_trials.config.keys import EXPERIMENT
from mnist_trials.config.nodes import plain
from mnist_trials.config.reader import read_yaml
from mnist_trials.config.report import Report
from mnist_trials.config.sections import known_names

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
CONFIGS = sorted((ROOT / "experiment_configs").glob("*.yaml"))
VALIDATOR = jsonschema.Draft7Validator(json_schema())


def test_the_schema_file_is_up_to_date() -> None:
    assert (DOCS / SCHEMA).read_text(encoding="utf-8") == schema_text(), (
        "run: python -m mnist_trials.config.documents docs"
    )


def test_the_documentation_is_up_to_date() -> None:
    page = (DOCS / PAGE).read_text(encoding="utf-8")

    assert page == page_text(page), "run: python -m mnist_trials.config.documents docs"


def test_writing_mends_what_is_out_of_date(tmp_path: Path) -> None:
    page = (DOCS / PAGE).read_text(encoding="utf-8")
    (tmp_path / PAGE).write_text(page.replace("| `precision` |", "| `precisoin` |"), encoding="utf-8")

    write(tmp_path)

    assert (tmp_path / PAGE).read_text(encoding="utf-8") == page
    assert (tmp_path / SCHEMA).read_text(encoding="utf-8") == schema_text()


def test_a_page_without_the_place_for_the_keys_is_refused() -> None:
    with pytest.raises(ValueError, match="no part between"):
        page_text("nothing")


def test_every_key_is_documented() -> None:
    page = (DOCS / PAGE).read_text(encoding="utf-8")
    keys = [path.partition(" ")[0] for path, _ in all_keys()]
    leaves = [f"{name}: {key}" for name, leaf in LEAVES.items() for key in leaf.names if key != "type"]

    missing = [name for name in (*keys, *leaves, *all_foreign()) if f"`{name}`" not in page]

    assert not missing


def test_the_table_has_every_field_of_the_config() -> None:
    within = {"experiment_seed": "reproducibility", "deterministic": "reproducibility"}

    assert {within.get(field.name, field.name) for field in fields(ExperimentConfig)} == set(EXPERIMENT.names)


def test_the_searcher_and_storage_names_of_the_contract_are_known() -> None:
    kinds = {key.name: key.kind for key in EXPERIMENT.keys}

    assert {"name", "metric", "max_trials", "num_rungs", "mode", "bracket_rungs"} <= set(known_names(kinds["searcher"]))
    assert {"type", "host_path", "bucket", "url", "save_trial_best"} <= set(known_names(kinds["checkpoint_storage"]))


def blocks() -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", (DOCS / PAGE).read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("block", blocks(), ids=lambda block: block.splitlines()[1])
def test_every_config_in_the_documentation_loads(block: str, load_text: Callable[..., Loaded]) -> None:
    assert not load_text(block).warnings
    VALIDATOR.validate(yaml.safe_load(block))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_of_the_project_loads_and_satisfies_the_schema(path: Path) -> None:
    loaded = load(path)

    assert not loaded.warnings
    VALIDATOR.validate(plain_yaml(path))
    VALIDATOR.validate(loaded.config.to_dict())


def plain_yaml(path: Path) -> Any:
    root = read_yaml(path.read_text(encoding="utf-8"), str(path), Report())
    assert root is not None
    return plain(root)


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft7Validator.check_schema(json_schema())


@pytest.mark.parametrize(
    "change",
    [
        {"sercher": 1},
        {"max_restarts": -1},
        {"max_restarts": "5"},
        {"precision": "fp31"},
        {"searcher": {"name": "single"}},
        {"searcher": {"name": "single", "metric": "m", "max_trials": 3}},
        {"searcher": {"metric": "m"}},
        {"checkpoint_storage": {"type": "directory"}},
        {"checkpoint_storage": {"host_path": "/x"}},
        {"hyperparameters": {"x": {"type": "itn"}}},
        {"hyperparameters": {"x": {"type": "int", "minval": 1}}},
        {"hyperparameters": {"a.b": 1}},
        {"min_validation_period": {"batches": 1, "epochs": 1}},
        {"resources": {"slots_per_trial": 0}},
    ],
)
def test_the_schema_finds_mistakes_for_editors(change: dict[str, Any], base: str) -> None:
    config = yaml.safe_load(base)
    VALIDATOR.validate(config)

    assert not VALIDATOR.is_valid({**config, **change})


def test_the_schema_takes_any_key_of_a_plugin(base: str) -> None:
    config = yaml.safe_load(base)

    VALIDATOR.validate({**config, "searcher": {"name": "evolution", "metric": "m", "parents": 3}})
    VALIDATOR.validate({**config, "checkpoint_storage": {"type": "tape", "robot": 3}})


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, mnist_trials.config; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    modules = done.stdout.split()

    assert not {"torch", "numpy", "fsspec", "rich", "jsonschema", "pluggy", "asyncio"} & set(modules)
    assert "yaml" in modules
