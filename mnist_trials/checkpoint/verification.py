"""Checks that the files of a checkpoint are, bit for bit, those its manifest was written for."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from io import RawIOBase
from pathlib import Path
from typing import Final

from mnist_trials.checkpoint.manifest import FileEntry, Manifest, read_manifest, unreadable
from mnist_trials.errors import CheckpointDamaged, CheckpointError
from mnist_trials.plugin import MANIFEST, CheckpointStorage

_PIECE: Final = 1 << 20  # bytes


def verify(folder: Path) -> Manifest:
    """Check every file of the checkpoint in `folder` against its manifest, which is returned.

    Raises:
        CheckpointDamaged: a file is missing, too many, of another size, or has other content; the text says which.
        CheckpointError: there is no such folder, it cannot be read, or a newer version of the format wrote it.
    """
    manifest = check_listing(folder)
    for name, entry in manifest.files.items():
        verify_file(folder / name, entry)
    return manifest


def check_listing(folder: Path) -> Manifest:
    """Check that `folder` holds the files its manifest names, in their sizes, and nothing else.

    Raises:
        CheckpointDamaged, CheckpointError: as for `verify`.
    """
    manifest = read_manifest(folder)
    found = {path.name: path for path in folder.iterdir() if path.name != MANIFEST}
    _require_names(str(folder), manifest, found)
    for name, entry in manifest.files.items():
        if found[name].is_symlink() or not found[name].is_file():
            raise CheckpointDamaged(f"{folder}: {name} is not a regular file.")
        _require_size(str(folder), name, found[name].stat().st_size, entry)
    return manifest


def verify_stored(storage: CheckpointStorage, checkpoint_id: str) -> None:
    """Check a checkpoint where it lies, as far as its storage tells without fetching all of it.

    That is: its manifest, the names of its files, their sizes where the storage knows them, and their content where it
    knows digests (folders are read again).

    Raises:
        CheckpointDamaged: it is not what was written, or not there; the text says which file and how.
        CheckpointError: the storage does not tell, or holds no checkpoint at all, as a disk that is not mounted; or a
            newer version of the format wrote it.
    """
    where = storage.locate(checkpoint_id)
    stored = storage.examine(checkpoint_id)
    if stored is None:
        if not storage.ids():
            raise CheckpointError(f"{where}: it is not there, nor is any other checkpoint. Is its disk mounted?")
        raise CheckpointDamaged(f"{where}: it is not there any more.")
    manifest = Manifest.from_bytes(stored.manifest, where)
    _require_names(where, manifest, stored.files)
    for name, entry in manifest.files.items():
        file = stored.files[name]
        if file.size is not None:
            _require_size(where, name, file.size, entry)
        if file.sha256 is not None:
            _require_digest(where, name, file.sha256, entry)


def verify_file(path: Path, entry: FileEntry) -> None:
    """Check one file without keeping its content.

    Raises:
        CheckpointDamaged: its content differs from what `entry` says.
        CheckpointError: it cannot be read.
    """
    with _explained(path), path.open("rb") as file:
        _require_digest(str(path.parent), path.name, hashlib.file_digest(file, "sha256").hexdigest(), entry)


def read_verified(path: Path, entry: FileEntry) -> memoryview:
    """The content of a file, in memory that can be written to; what is returned is what was checked.

    Raises:
        CheckpointDamaged: its content differs from what `entry` says.
        CheckpointError: it cannot be read.
    """
    import numpy as np  # not needed to verify

    digest = hashlib.sha256()
    content = memoryview(np.empty(entry.size, np.uint8))  # type: ignore[arg-type] # not filled before, as bytearray is
    with _explained(path), path.open("rb", buffering=0) as file:
        for start in range(0, entry.size, _PIECE):
            piece = content[start : start + _PIECE]
            _fill(piece, file)
            digest.update(piece)  # while it is still in the processor's cache
    _require_digest(str(path.parent), path.name, digest.hexdigest(), entry)
    return content


def _fill(piece: memoryview, file: RawIOBase) -> None:
    """Read into `piece`; of a file that has become too short it keeps what it is, which the digest will show."""
    while piece and (count := file.readinto(piece)):
        piece = piece[count:]


def _require_names(where: str, manifest: Manifest, found: Collection[str]) -> None:
    if missing := sorted(set(manifest.files) - set(found)):
        raise CheckpointDamaged(f"{where}: {', '.join(missing)} is missing.")
    if extra := sorted(set(found) - set(manifest.files)):
        raise CheckpointDamaged(f"{where}: {', '.join(extra)} does not belong to the checkpoint.")


def _require_size(where: str, name: str, size: int, entry: FileEntry) -> None:
    if size != entry.size:
        raise CheckpointDamaged(f"{where}: {name} has {size} bytes and must have {entry.size}.")


def _require_digest(where: str, name: str, sha256: str, entry: FileEntry) -> None:
    if sha256 != entry.sha256:
        raise CheckpointDamaged(
            f"{where}: the content of {name} was changed after it was written: "
            f"its SHA-256 is {sha256} and must be {entry.sha256}."
        )


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise unreadable(path, error) from error
