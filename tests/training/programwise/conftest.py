"""For trainings by programs, without a compiler."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture(autouse=True)
def no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """Programs run as they were captured: what compiling makes of them is tested elsewhere."""
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setenv("MNIST_TRIALS_HOME", str(tmp_path / "home"))
