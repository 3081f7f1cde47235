"""Room on the disks that an experiment writes to, looked at beside everything else.

A share of each is left free: an experiment is paused before it runs full, while there is room to save every trial.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import final

from mnist_trials.plugin import CheckpointStorage

RESERVE_BYTES = 500_000_000
RESERVE_SHARE = 0.02  # of the whole disk, where that is less

_ANY_ID = "any"

_LOOK_SECONDS = 1.0
_FIRST_LOOK_SECONDS = 2.0  # a file system that does not answer must not stall a controller


def shortage(path: Path) -> str:
    """What to tell if the disk of `path` has too little room; empty: it has enough, or that cannot be known."""
    while not path.exists() and path != path.parent:
        path = path.parent
    try:
        disk = shutil.disk_usage(path)
    except OSError:
        return ""
    reserve = min(RESERVE_BYTES, int(disk.total * RESERVE_SHARE))
    if disk.free >= reserve:
        return ""
    return (
        f"the disk of {path} has {disk.free / 1e6:,.0f} MB left, and {reserve / 1e6:,.0f} MB are kept free. Make room, "
        f"for instance with `mnist-trials delete`"
    )


def folder_of(storage: CheckpointStorage) -> list[Path]:
    """The folder in which a storage keeps checkpoints, where that is a folder here."""
    place = Path(storage.locate(_ANY_ID))
    return [place.parent] if place.is_absolute() else []


@final
class DiskWatch:
    """Looks each second, in a thread of its own. `close` it."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = tuple(paths)
        self._closed = threading.Event()
        self._looked = threading.Event()
        self.short = ""  # what to tell; empty while there is room
        self._thread = threading.Thread(target=self._work, name="disk-watch", daemon=True)
        self._thread.start()
        self._looked.wait(_FIRST_LOOK_SECONDS)

    def close(self) -> None:
        """Look no more."""
        self._closed.set()

    def look(self) -> None:
        """Look now."""
        self.short = next(filter(None, map(shortage, self._paths)), "")

    def _work(self) -> None:
        while not self._closed.is_set():
            self.look()
            self._looked.set()
            self._closed.wait(_LOOK_SECONDS)
