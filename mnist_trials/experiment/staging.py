"""Where files are put together before they appear as a whole: an experiment's, or those of a downloaded checkpoint.

A process that is killed leaves its folder behind. While it lives it holds a lock on the folder, which the kernel gives
back when it dies, however it dies; so the next one can tell what is left from what is being made.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PREFIX = ".new-"


@contextmanager
def staging(parent: Path, prefix: str = _PREFIX) -> Iterator[Path]:
    """A new folder in `parent` for the time of a `with` block, which may move it elsewhere; made if need be.

    Its name begins with `prefix`. What processes that died have left in `parent` by that prefix is removed first.

    Raises:
        OSError: it cannot be made.
    """
    parent.mkdir(parents=True, exist_ok=True)
    for leftover in parent.glob(f"{prefix}*"):
        with suppress(OSError):  # perhaps another user's; it harms nobody
            _remove_dead(leftover)
    folder, lock = _new(parent, prefix)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _new(parent: Path, prefix: str) -> tuple[Path, int]:
    while True:
        folder = parent / f"{prefix}{uuid.uuid4()}"
        folder.mkdir()
        if (lock := _locked(folder)) is not None:
            return folder, lock
        # Another process took it for a leftover in the instant before it was locked.


def _remove_dead(folder: Path) -> None:
    if (lock := _locked(folder)) is not None:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _locked(folder: Path) -> int | None:
    """A descriptor that locks `folder`; None where another process holds it, or it is gone."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), folder.stat()):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(descriptor)
    return None
