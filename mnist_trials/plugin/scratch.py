"""Folders for what is needed for a while only. What a killed process leaves of them goes when the next one is made.

Each is locked (`flock`) by the process that uses it, and the kernel gives the lock back when that process is gone,
however it ended. Whoever makes a folder first removes those that nobody holds.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final, final

_PREFIX: Final = "mnist-trials-scratch-"


@final
class Scratch:
    """A new folder in `TMPDIR`, for as long as it is not removed or its process lives; `path` is where it is.

    What killed processes of this user left of theirs is removed first.

    Raises:
        OSError: no folder can be made there.
    """

    def __init__(self) -> None:
        _sweep(Path(tempfile.gettempdir()))
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
            try:
                self._lock = _locked(self.path)
            except OSError:  # another process took it for a leftover before it was locked
                continue
            return

    def remove(self) -> None:
        """Remove the folder and all in it; what cannot be removed is left."""
        shutil.rmtree(self.path, ignore_errors=True)
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)


def _sweep(place: Path) -> None:
    for folder in place.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if folder.lstat().st_uid == os.getuid() and (lock := _locked(folder)) is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)


def _locked(folder: Path) -> int | None:
    """A descriptor that holds the lock of `folder`; None: folders cannot be locked there.

    Raises:
        OSError: another process holds it, or has removed it.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(descriptor), folder.lstat()):
            raise FileNotFoundError(folder)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError | FileNotFoundError):
            raise
        return None
    return descriptor
