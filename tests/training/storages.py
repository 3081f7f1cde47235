"""Checkpoint storages that a test decides about: when a save becomes durable, and which tries fail."""

from __future__ import annotations

import sys
import threading
from types import FrameType
from typing import Any

from typing_extensions import override

from mnist_trials.plugin import CheckpointStorage
from mnist_trials.testing.waiting import DEADLINE, wait_until
from mnist_trials.training.saving.background import Saver
from tests.storages import Wrapped


class Patient(Wrapped):
    """Stores nothing before the thread that made it waits for that."""

    def __init__(self, storage: CheckpointStorage) -> None:
        super().__init__(storage)
        self._training = threading.get_ident()

    @override
    def commit(self, checkpoint_id: str) -> None:
        wait_until(lambda: _is_in(Saver.settle, sys._current_frames()[self._training]))
        super().commit(checkpoint_id)


class Gated(Wrapped):
    """Stores what it is given once `gate` is open; `entered` is set by whoever waits there."""

    def __init__(self, storage: CheckpointStorage) -> None:
        super().__init__(storage)
        self.gate = threading.Event()
        self.entered = threading.Event()

    @override
    def commit(self, checkpoint_id: str) -> None:
        self.entered.set()
        assert self.gate.wait(DEADLINE)
        super().commit(checkpoint_id)


class Failing(Wrapped):
    """The first `times` commits raise `error`."""

    def __init__(self, storage: CheckpointStorage, times: int, error: Exception) -> None:
        super().__init__(storage)
        self.tried: list[str] = []
        self._times = times
        self._error = error

    @override
    def commit(self, checkpoint_id: str) -> None:
        self.tried.append(checkpoint_id)
        if len(self.tried) <= self._times:
            raise self._error
        super().commit(checkpoint_id)


def saves_ended() -> None:
    """Wait until no thread writes a checkpoint."""
    for thread in threading.enumerate():
        if thread.name == "save-checkpoint":
            thread.join(DEADLINE)
            assert not thread.is_alive()


def _is_in(function: Any, frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code is function.__code__:
            return True
        frame = frame.f_back
    return False
