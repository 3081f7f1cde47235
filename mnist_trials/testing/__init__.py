"""For those who write plugins: one suite of tests per kind of plugin, to subclass in your own tests.

    from mnist_trials.testing import CheckpointStorageSuite

    class TestMyStorage(CheckpointStorageSuite):
        plugin = "my_storage"

Each suite says in its docstring what to give it. The suites need pytest; they are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mnist_trials.testing.backend import BackendSuite as BackendSuite
    from mnist_trials.testing.checkpoint_storage import CheckpointStorageSuite as CheckpointStorageSuite
    from mnist_trials.testing.launcher import LauncherSuite as LauncherSuite
    from mnist_trials.testing.logger import LoggerSuite as LoggerSuite
    from mnist_trials.testing.searcher import SearcherSuite as SearcherSuite

_HOMES = {
    "BackendSuite": "backend",
    "CheckpointStorageSuite": "checkpoint_storage",
    "LauncherSuite": "launcher",
    "LoggerSuite": "logger",
    "SearcherSuite": "searcher",
}

__all__ = ["BackendSuite", "CheckpointStorageSuite", "LauncherSuite", "LoggerSuite", "SearcherSuite"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'mnist_trials.testing' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"mnist_trials.testing.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_HOMES))
