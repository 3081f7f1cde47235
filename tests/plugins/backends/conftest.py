from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.plugins.backends.jax_lab import JaxCrew
from tests.training.lab import Lab


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


@pytest.fixture(scope="session")
def jax_crew(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JaxCrew]:
    """A process that uses jax, with two devices; shared by all tests."""
    crew = JaxCrew(tmp_path_factory.mktemp("programs"))
    yield crew
    crew.dismiss()
