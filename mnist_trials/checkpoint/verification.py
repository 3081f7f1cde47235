"""Checks that the files of a checkpoint are, bit for bit, those its manifest was written for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mnist_trials.checkpoint.manifest import FileEntry, Manifest, read_manifest, unreadable
from mnist_trials.errors import CheckpointDamaged
from mnist_trials.plugin import MANIFEST


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


def read_verified(path: Path, entry: FileEntry) -> bytes:
    """The content of a file; what is returned is what was checked.

    Raises:
        CheckpointDamaged: its content differs from what `entry` says.
        CheckpointError: it cannot be read.
    """
    with _explained(path):
        content = path.read_bytes()
    _compare(path, entry, hashlib.sha256(content).hexdigest())
    return content


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
