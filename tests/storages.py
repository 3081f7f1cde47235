"""A checkpoint storage to change in one point or another."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from typing_extensions import override

from mnist_trials.plugin import CheckpointStorage, Stored, get_plugins


def directory(folder: Path) -> CheckpointStorage:
    """Keeps checkpoints in `folder`."""
    storage: CheckpointStorage = get_plugins().find("checkpoint_storage", "directory").factory({}, folder)
    return storage


class Wrapped(CheckpointStorage):
    """Does what another storage does."""

    def __init__(self, storage: CheckpointStorage) -> None:
        self._storage = storage

    @property
    @override
    def local(self) -> bool:
        return self._storage.local

    @override
    def begin(self, checkpoint_id: str) -> Path:
        return self._storage.begin(checkpoint_id)

    @override
    def commit(self, checkpoint_id: str) -> None:
        self._storage.commit(checkpoint_id)

    @override
    def fetch(self, checkpoint_id: str) -> AbstractContextManager[Path]:
        return self._storage.fetch(checkpoint_id)

    @override
    def delete(self, checkpoint_id: str) -> None:
        self._storage.delete(checkpoint_id)

    @override
    def ids(self) -> list[str]:
        return self._storage.ids()

    @override
    def unfinished(self) -> list[str]:
        return self._storage.unfinished()

    @override
    def examine(self, checkpoint_id: str) -> Stored | None:
        return self._storage.examine(checkpoint_id)

    @override
    def locate(self, checkpoint_id: str) -> str:
        return self._storage.locate(checkpoint_id)
