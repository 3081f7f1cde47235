"""What a checkpoint storage is: a place where checkpoint folders lie, each named by its id.

It knows nothing of what is in a folder but that `manifest.json` is what makes it a checkpoint.
"""

from __future__ import annotations

import hashlib
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import final

from mnist_trials.errors import CheckpointError
from mnist_trials.plugin.copying import Progress, copy_files

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


@final
@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of a checkpoint as it lies in its storage."""

    size: int | None  # bytes; None: the storage does not tell
    sha256: str | None = None  # of its content, in hexadecimal; None: not without fetching it


@final
@dataclass(frozen=True, slots=True)
class Stored:
    """A complete checkpoint as it lies in its storage."""

    manifest: bytes  # the content of `manifest.json`
    files: Mapping[str, StoredFile]  # all the others, by name, '/' between folders


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

    def bring(self, checkpoint_id: str, folder: Path, told: Progress) -> None:
        """Copy the files of a checkpoint into the local folder `folder`, empty so far, telling how far that is.

        A storage that reads from afar does so straight into `folder`; this one copies what `fetch` gives.

        Raises:
            CheckpointError: there is no such checkpoint, or it cannot be read or copied.
        """
        with self.fetch(checkpoint_id) as found:
            copy_files(found, folder, told)

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
    def unfinished(self) -> list[str]:
        """The ids that were begun, and neither committed nor deleted since, sorted; those of saves under way too.

        What lies where this process cannot see it (in a local folder of another machine, say) is not among them.
        `delete` removes what is left of each.

        Raises:
            CheckpointError: the storage cannot be listed.
        """

    @abstractmethod
    def locate(self, checkpoint_id: str) -> str:
        """Where a person finds it: a path or URL."""

    def abandon(self, checkpoint_id: str) -> None:
        """Remove what a `begin` left that is given up because of a failure: one attempt; that it fails is no error.

        Whoever calls this has waited for the storage already; what cannot be removed now is left to `unfinished`.
        To be overridden where `delete` tries for long.

        Raises:
            CheckpointError: the id is not one.
        """
        require_checkpoint_id(checkpoint_id)
        with suppress(CheckpointError):
            self.delete(checkpoint_id)

    def examine(self, checkpoint_id: str) -> Stored | None:
        """What lies in the storage under an id, read anew; None: there is no such checkpoint.

        By default all of it is fetched and digested. To be overridden where that moves much data: sizes that a listing
        tells, and digests that the service keeps, will do.

        Raises:
            CheckpointError: it cannot be read, or the id is not one.
        """
        require_checkpoint_id(checkpoint_id)
        if checkpoint_id not in self.ids():
            return None
        with self.fetch(checkpoint_id) as folder:
            return examined(folder)


def examined(folder: Path) -> Stored:
    """What lies in the folder of a checkpoint, with the digests of its files.

    Raises:
        CheckpointError: something in it cannot be read.
    """
    try:
        files = {
            path.relative_to(folder).as_posix(): StoredFile(path.stat().st_size, _digest(path))
            for path in sorted(folder.rglob("*"))
            if not path.is_dir()
        }
        files.pop(MANIFEST, None)
        return Stored((folder / MANIFEST).read_bytes(), files)
    except OSError as error:
        raise CheckpointError(f"{error.filename or folder} cannot be read: {error.strerror or error}.") from error


def _digest(path: Path) -> str:
    """The SHA-256 of a file's content, from the disk and not from the memory it was written from, where that can be."""
    with path.open("rb") as file:
        if hasattr(os, "posix_fadvise"):
            with suppress(OSError):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return hashlib.file_digest(file, "sha256").hexdigest()
