"""The configs that come along, and the project that `init` writes."""

from __future__ import annotations

import ast
import importlib
from importlib.resources import files
from pathlib import Path

import pytest

from mnist_trials.config import load
from mnist_trials.training.trial import Trial

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "experiment_configs").glob("*.yaml"))
PROJECT = ROOT / "examples" / "project"
TEMPLATES = ROOT / "mnist_trials" / "cli" / "templates"


def name(path: Path) -> str:
    return path.name


@pytest.mark.parametrize("path", [*CONFIGS, *sorted(TEMPLATES.glob("*.yaml"))], ids=name)
def test_a_config_loads_without_a_warning(path: Path) -> None:
    loaded = load(path)
    assert loaded.warnings == ()
    searcher = loaded.config.searcher
    assert (searcher.metric, searcher.smaller_is_better) in [("validation_loss", True), ("accuracy", False)]


@pytest.mark.parametrize("path", CONFIGS, ids=name)
def test_a_config_says_at_its_top_what_it_is_and_what_it_reaches(path: Path) -> None:
    top = path.read_text(encoding="utf-8").split("\nname:")[0]
    assert all(line.startswith("# ") for line in top.splitlines())
    assert "accuracy" in top


@pytest.mark.parametrize("path", CONFIGS, ids=name)
def test_a_config_names_a_trial_that_is_there_or_a_script_that_is(path: Path) -> None:
    entrypoint = load(path).config.entrypoint
    if entrypoint.trial is None:
        assert (PROJECT / entrypoint.command[1]).is_file()
        return
    module, _, cls = entrypoint.trial.partition(":")
    assert issubclass(getattr(importlib.import_module(module), cls), Trial)


@pytest.mark.parametrize("path", CONFIGS, ids=name)
def test_every_config_is_in_the_table_of_references(path: Path) -> None:
    assert f"`{path.name}`" in (ROOT / "docs" / "references.md").read_text(encoding="utf-8")


def test_init_writes_what_the_contract_lists() -> None:
    written = {entry.name for entry in files("mnist_trials.cli").joinpath("templates").iterdir() if entry.is_file()}
    assert written == {
        "trial.py",
        "train.py",
        "const.yaml",
        "distributed.yaml",
        "dist_random.yaml",
        "adaptive.yaml",
    }


@pytest.mark.parametrize("path", sorted(path for path in TEMPLATES.iterdir() if path.is_file()), ids=name)
def test_the_example_is_what_init_writes(path: Path) -> None:
    assert (PROJECT / path.name).read_bytes() == path.read_bytes()


def test_the_project_uses_only_public_names() -> None:
    public = set(importlib.import_module("mnist_trials").__all__)
    for path in TEMPLATES.glob("*.py"):
        used = {
            node.attr
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "mt"
        }
        assert used <= public
