from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.integration.support import Command, write_config


@pytest.fixture
def command(tmp_path: Path) -> Command:
    folder = tmp_path / "work"
    folder.mkdir()
    return Command(tmp_path / "home", folder)


@pytest.fixture
def written(command: Command) -> Callable[..., Path]:
    """Writes a config into the working folder."""
    return partial(write_config, command.cwd)
