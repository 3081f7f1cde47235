"""Who is the controller of an experiment: the process that holds the lock on its `controller.lock`."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mnist_trials.errors import StoreError, UsageError

_held: set[int] = set()
_PATIENCE_SECONDS = 1.0  # `is_locked` of another process holds a lock for an instant


@contextmanager
def controller_lock(path: Path, experiment_id: int) -> Iterator[None]:
    """Hold the lock for the time of a `with` block. The kernel gives it back when this process dies, however it dies.

    Raises:
        UsageError: another process holds it.
        StoreError: the file cannot be made.
    """
    descriptor = _open(path)
    try:
        if not _acquire(descriptor):
            raise UsageError(
                f"Experiment {experiment_id} is already being run by process {locked_by(path)}. "
                f"`mnist-trials wait {experiment_id}` follows it."
            )
        with suppress(OSError):  # a full disk: the lock is held all the same, and deleting makes room
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
        _held.add(descriptor)
        yield
    finally:
        _held.discard(descriptor)
        os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Whether some process holds the lock right now."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def locked_by(path: Path) -> str:
    """The process id that the last holder of the lock wrote down; empty where it cannot be read."""
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _open(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StoreError(f"{path} cannot be made: {error.strerror}.") from error


def _acquire(descriptor: int) -> bool:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        else:
            return True


def _close_in_child() -> None:
    # A child that is forked and not exec'ed (a loader's worker under the inline launcher) would keep the lock alive.
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_close_in_child)
