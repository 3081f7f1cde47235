"""docs/references.md: every row names tests, every test named is there, and so is every config and checklist row."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "references.md"
NAMED = re.compile(r"`([\w/.]+\.py)::(test_\w+)`")
CHECKLIST = [
    f"{reference}{number}"
    for reference, rows in {"S": 12, "A": 6, "B": 7, "C": 11, "D": 7}.items()
    for number in range(1, rows + 1)
]


def rows() -> Iterator[list[str]]:
    """The cells of every row of the tables that end in a column of tests."""
    tested = False
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if not line.startswith("|"):
            tested = False
        elif re.match(r"\| (parameter|) ?\|.*\| tests \|$", line):
            tested = True
        elif tested and not line.startswith("| ---"):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


@functools.cache
def functions_of(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("row", list(rows()), ids=lambda row: row[0][:50])
def test_a_row_names_tests_and_they_are_there(row: list[str]) -> None:
    named = NAMED.findall(row[-1])
    assert named, "a row of this page says which tests hold it to what is built"
    assert ", ".join(f"`{path}::{name}`" for path, name in named) == row[-1]
    assert [(path, name) for path, name in named if not (ROOT / path).is_file() or name not in functions_of(path)] == []


def test_every_table_of_parameters_has_its_tests() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert len(re.findall(r"^\| parameter \|", text, re.MULTILINE)) == text.count("| parameter | here | tests |") > 10


def test_the_checklist_is_complete() -> None:
    assert [row[0] for row in rows() if re.fullmatch(r"[SABCD]\d+", row[0])] == CHECKLIST


def test_nothing_is_put_off() -> None:
    assert "planned" not in PAGE.read_text(encoding="utf-8").lower()


def test_every_config_that_is_named_is_there() -> None:
    named = set(re.findall(r"\b([a-z_]+\.yaml)\b", PAGE.read_text(encoding="utf-8")))
    assert {name for name in named if not (ROOT / "experiment_configs" / name).is_file()} == {
        "config.yaml",
        "params_train.yaml",
    }
