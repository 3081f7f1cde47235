"""Checks that the files of a checkpoint are, bit for bit, those its manifest was written for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import RawIOBase
from pathlib import Path
from typing import Final

from mnist_trials.checkpoint.manifest import FileEntry, Manifest, read_manifest, unreadable
from mnist_trials.errors import CheckpointDamaged
from mnist_trials.plugin import MANIFEST

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
    if missing := sorted(set(manifest.files) - set(found)):
        raise CheckpointDamaged(f"{folder}: {', '.join(missing)} is missing.")
    if extra := sorted(set(found) - set(manifest.files)):
        raise CheckpointDamaged(f"{folder}: {', '.join(extra)} does not belong to the checkpoint.")
    for name, entry in manifest.files.items():
        if found[name].is_symlink() or not found[name].is_file():
            raise CheckpointDamaged(f"{folder}: {name} is not a regular file.")
        if (size := found[name].stat().st_size) != entry.size:
            raise CheckpointDamaged(f"{folder}: {name} has {size} bytes and must have {entry.size}.")
    return manifest


def verify_file(path: Path, entry: FileEntry) -> None:
    """Check one file without keeping its content.

    Raises:
        CheckpointDamaged: its content differs from what `entry` says.
        CheckpointError: it cannot be read.
    """
    with _explained(path), path.open("rb") as file:
        _compare(path, entry, hashlib.file_digest(file, "sha256").hexdigest())


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
    _compare(path, entry, digest.hexdigest())
    return content


def _fill(piece: memoryview, file: RawIOBase) -> None:
    """Read into `piece`; of a file that has become too short it keeps what it is, which the digest will show."""
    while piece and (count := file.readinto(piece)):
        piece = piece[count:]


def _compare(path: Path, entry: FileEntry, sha256: str) -> None:
    if sha256 != entry.sha256:
        raise CheckpointDamaged(
            f"{path.parent}: the content of {path.name} was changed after it was written: "
            f"its SHA-256 is {sha256} and must be {entry.sha256}."
        )


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise unreadable(path, error) from error
