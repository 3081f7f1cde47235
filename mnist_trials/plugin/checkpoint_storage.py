"""What a checkpoint storage is: a place where checkpoint folders lie, each named by its id.

It knows nothing of what is in a folder but that `manifest.json` is what makes it a checkpoint.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from pathlib import Path


class CheckpointStorage(ABC):
    """Keeps checkpoint folders. Safe to use from several processes at once, each on ids of its own."""

    @abstractmethod
    def begin(self, checkpoint_id: str) -> Path:
        """A new empty local folder to write the checkpoint's files into. What an earlier, cut-off `begin` of the
        same id left is gone.

        Raises:
            CheckpointError: the storage cannot be written, or the id is not one (it cannot leave the root).
        """

    @abstractmethod
    def commit(self, checkpoint_id: str) -> None:
        """Make what was written since `begin` durable, then visible as a whole, manifest last.

        After a kill at any point the id is either wholly there or not there at all.

        Raises:
            CheckpointError: it could not be stored; nothing is visible under the id.
        """

    @abstractmethod
    def fetch(self, checkpoint_id: str) -> AbstractContextManager[Path]:
        """The checkpoint as a local, read-only folder for the time of a `with` block.

        Raises:
            CheckpointError: there is no such checkpoint.
        """

    @abstractmethod
    def delete(self, checkpoint_id: str) -> None:
        """Remove a checkpoint; one that is not there is no error."""

    @abstractmethod
    def ids(self) -> list[str]:
        """The ids of all complete checkpoints, sorted."""

    @abstractmethod
    def locate(self, checkpoint_id: str) -> str:
        """Where a person finds it: a path or URL."""
