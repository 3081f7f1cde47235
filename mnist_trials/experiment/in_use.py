"""Who reads a checkpoint beside its experiment: `evaluate`, `export`. It is not deleted as long as they do.

A reader holds a shared lock on a file, which ends with the reader whatever becomes of it.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from mnist_trials.experiment.home import ExperimentFiles


@contextmanager
def reading(files: ExperimentFiles, uuid: str) -> Iterator[None]:
    """Hold a checkpoint for the time of a `with` block. Look into the store after that: it may be given up already."""
    try:
        files.in_use.mkdir(parents=True, exist_ok=True)
        lock = (files.in_use / uuid).open("ab")
    except OSError:  # a home that cannot be written: no controller is at work in it either
        yield
        return
    with lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def is_read(files: ExperimentFiles, uuid: str) -> bool:
    """Whether somebody holds a checkpoint, which has been given up: nobody new will."""
    path = files.in_use / uuid
    try:
        with path.open("ab" if path.exists() else "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False
