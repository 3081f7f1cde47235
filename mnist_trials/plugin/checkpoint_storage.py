"""What a checkpoint storage is: a place where checkpoint folders lie, each named by its id.

It knows nothing of what is in a folder but that `manifest.json` is what makes it a checkpoint.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from pathlib import Path

from mnist_trials.errors import CheckpointError

MANIFEST = "manifest.json"
"""The file that makes a folder a checkpoint; always written last."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def require_checkpoint_id(checkpoint_id: str) -> None:
    """Check that `checkpoint_id` is a plain name, so that no storage can be led out of its root by one.

    Raises:
        CheckpointError: it is not.
    """
    if _ID.fullmatch(checkpoint_id) is None:
        raise CheckpointError(
            f"{checkpoint_id!r} is not a checkpoint id: an id has 1 to 128 of the characters a-z, A-Z, 0-9, '.', '_' "
            "and '-', and begins with a letter or a digit."
        )


class CheckpointStorage(ABC):
    """Keeps checkpoint folders. Safe to use from several processes at once, each on ids of its own."""

    @property
    def local(self) -> bool:
        """Whether what it keeps can be reached from this machine only."""
        return False

    @abstractmethod
    def begin(self, checkpoint_id: str) -> Path:
        """A new empty local folder to write the checkpoint's files into.

        What an earlier, cut-off `begin` of the same id left is gone.

        Raises:
            CheckpointError: the storage cannot be written, the id is taken by a complete checkpoint, or it is not an
                id (see `require_checkpoint_id`).
        """

    @abstractmethod
    def commit(self, checkpoint_id: str) -> None:
        """Make what was written since `begin` durable, then visible as a whole, manifest last.

        After a kill at any point the id is either wholly there or not there at all.

        Raises:
            CheckpointError: it could not be stored, was not begun, or has no manifest; nothing is visible under the
                id.
        """

    @abstractmethod
    def fetch(self, checkpoint_id: str) -> AbstractContextManager[Path]:
        """The checkpoint as a local, read-only folder for the time of a `with` block.

        Raises:
            CheckpointError: there is no such checkpoint.
        """

    @abstractmethod
    def delete(self, checkpoint_id: str) -> None:
        """Remove a checkpoint, or what an unfinished `begin` of it left; one that is not there is no error.

        Raises:
            CheckpointError: it could not be removed, or the id is not one.
        """

    @abstractmethod
    def ids(self) -> list[str]:
        """The ids of all complete checkpoints, sorted."""

    @abstractmethod
    def locate(self, checkpoint_id: str) -> str:
        """Where a person finds it: a path or URL."""
