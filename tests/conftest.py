"""Shared by all tests."""

import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest

# The conformance suites are shipped in the package; their assertions should explain themselves like any test's.
pytest.register_assert_rewrite("mnist_trials.testing")

# A shell that starts the tests in the background has them ignore Ctrl-C, and all processes they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def how_torch_computes() -> dict[str, Any]:
    """What of this process's torch decides how the tests that follow come to their numbers."""
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "get_float32_matmul_precision"):
        return {"autocast": False, "precision": "highest", "dtype": "torch.float32", "deterministic": False}
    return {
        "autocast": torch.is_autocast_enabled("cpu"),
        "precision": torch.get_float32_matmul_precision(),
        "dtype": str(torch.get_default_dtype()),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


@pytest.fixture(autouse=True)
def leaves_torch_as_it_was() -> Iterator[None]:
    before = how_torch_computes()
    yield
    assert how_torch_computes() == before
