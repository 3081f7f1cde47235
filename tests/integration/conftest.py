from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.support import Command, experiment_config


@pytest.fixture
def command(tmp_path: Path) -> Command:
    folder = tmp_path / "work"
    folder.mkdir()
    return Command(tmp_path / "home", folder)


@pytest.fixture
def written(command: Command) -> Callable[..., Path]:
    """Writes a config (as JSON, which is YAML) into the working folder."""

    def write(**changes: Any) -> Path:
        path = command.cwd / "experiment.yaml"
        path.write_text(json.dumps(experiment_config(**changes), indent=1))
        return path

    return write
