from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.training.distributed.crew import Crew


@pytest.fixture(scope="session")
def crew() -> Iterator[Crew]:
    """Shared by all tests: what one leaves behind in a process, another must be able to bear."""
    made = Crew()
    yield made
    made.dismiss()
