"""docs/cli.md is what the parsers say."""

from __future__ import annotations

from pathlib import Path

from mnist_trials.cli.reference import render
from mnist_trials.cli.registry import COMMANDS

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"


def test_the_page_is_made_from_the_parsers() -> None:
    assert PAGE.read_text() == render(), "python -m mnist_trials.cli.reference > docs/cli.md"


def test_the_page_has_every_command_once() -> None:
    lines = render().splitlines()
    for command in COMMANDS:
        assert lines.count(f"### {command.name}") == 1
