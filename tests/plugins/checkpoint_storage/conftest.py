from collections.abc import Callable, Iterator

import pytest

from tests.plugins.checkpoint_storage.moto_server import MotoServer


@pytest.fixture(scope="session")
def s3_server() -> Iterator[MotoServer]:
    server = MotoServer()
    yield server
    server.stop()


@pytest.fixture
def bucket(s3_server: MotoServer, numbered: Callable[[], int]) -> str:
    """An empty bucket of the test's own."""
    name = f"bucket-{numbered()}"
    s3_server.make_bucket(name)
    return name


@pytest.fixture(scope="session")
def numbered() -> Callable[[], int]:
    numbers = iter(range(1, 100_000))
    return lambda: next(numbers)
