from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from mnist_trials.config import Loaded, load
from mnist_trials.errors import ConfigError

HERE = Path(__file__).parent
BASE = """\
entrypoint: model_def:MnistTrial
searcher:
  name: single
  metric: validation_loss
  max_length: {epochs: 1}
"""

Write = Callable[[str], Path]
LoadText = Callable[..., Loaded]
Says = Callable[..., str]


def cases(name: str) -> list[Any]:
    """The cases of a YAML file beside this one, named by their `name`."""
    documents = yaml.safe_load((HERE / name).read_text(encoding="utf-8"))
    return [pytest.param(case, id=case["name"].replace(" ", "-")) for case in documents]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "mistake" in metafunc.fixturenames:
        metafunc.parametrize("mistake", cases("mistakes.yaml"))
    if "accepted" in metafunc.fixturenames:
        metafunc.parametrize("accepted", cases("accepted.yaml"))


@pytest.fixture
def base() -> str:
    """A valid config of five lines."""
    return BASE


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a config file and gives its path."""

    def write(text: str) -> Path:
        path = tmp_path / "const.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def load_text(write: Write) -> LoadText:
    """Loads a config given as text."""
    return lambda text, overrides=(): load(write(text), overrides)


@pytest.fixture
def says(write: Write) -> Says:
    """What loading a config given as text says, the file's name written as CONFIG."""

    def says(text: str, overrides: tuple[str, ...] = ()) -> str:
        path = write(text)
        with pytest.raises(ConfigError) as caught:
            load(path, overrides)
        return str(caught.value).replace(str(path), "CONFIG")

    return says
