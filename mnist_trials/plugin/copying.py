"""Copying the files of a checkpoint from folder to folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mnist_trials.errors import CheckpointError

Progress = Callable[[int, int], object]
"""Told (bytes so far, bytes in all), often."""

_PIECE: Final = 4 << 20  # bytes


def copy_files(source: Path, target: Path, told: Progress) -> None:
    """Copy every file in `source` into the folder `target`, telling how far that is.

    Raises:
        CheckpointError: one cannot be read or written; the text says which.
    """
    try:
        paths = sorted(path for path in source.rglob("*") if path.is_file())
        total, done = sum(path.stat().st_size for path in paths), 0
        for path in paths:
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            with path.open("rb") as reading, copy.open("xb") as writing:
                while piece := reading.read(_PIECE):
                    writing.write(piece)
                    done += len(piece)
                    told(done, total)
    except OSError as error:
        where = error.filename or os.fspath(target)
        raise CheckpointError(
            f"{source} could not be copied to {target}: {error.strerror or error} ({where})."
        ) from error
