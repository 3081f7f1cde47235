"""Fetches MNIST with torchvision, once for all trials of a home, and gives up soon where there is no network."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import os
import shutil
import socket
import threading
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from pathlib import Path

from mnist_trials.mnist.data.folder import Folder, look_in

PATIENCE = 4.0
"""Seconds in which one of the mirrors must answer, and which a download may stand still."""


def download(root: Path, patience: float = PATIENCE) -> Folder | str:
    """MNIST under `root`, fetched if it is not there yet; or, in a sentence, why it cannot be had.

    torchvision checks the files' MD5 sums. They appear under `root` all at once, so that one that was cut off is
    never taken for the whole. Other processes that ask at the same time wait for the first.
    """
    from torchvision.datasets import MNIST

    if silence := _first_answer(MNIST.mirrors, MNIST.resources[0][0], patience):
        return silence
    partial = root / ".partial"
    try:
        with _alone(root), _patience(patience):
            if (folder := look_in(root)) is not None:
                return folder
            shutil.rmtree(partial, ignore_errors=True)
            MNIST(partial, download=True)
            _drop_archives(partial)
            os.replace(partial / "MNIST", root / "MNIST")
    except (OSError, RuntimeError, EOFError, zlib.error, http.client.HTTPException) as error:
        return f"the download into {root} failed: {' '.join(str(error).split())}"
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return look_in(root) or f"the download into {root} is incomplete"


def _first_answer(mirrors: list[str], name: str, patience: float) -> str | None:
    """None as soon as one of the mirrors answers, else what became of each.

    The questions are asked in threads of their own because looking up a host name takes as long as it likes.
    """
    changed = threading.Condition()
    heard: dict[str, str | None] = {}

    def ask(mirror: str) -> None:
        answer = _ask(mirror + name, patience)
        with changed:
            heard[mirror] = answer
            changed.notify()

    for mirror in mirrors:
        threading.Thread(target=ask, args=(mirror,), daemon=True).start()
    with changed:
        changed.wait_for(lambda: None in heard.values() or len(heard) == len(mirrors), timeout=patience)
        if None in heard.values():
            return None
        said = (f"{mirror} {heard.get(mirror) or 'did not answer in time'}" for mirror in mirrors)
        return f"no mirror of it answers: {', '.join(said)}"


def _ask(url: str, patience: float) -> str | None:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=patience):  # noqa: S310
            return None
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        return f"({reason})"


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Holds the lock of `root`, which ends with the process at the latest."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _patience(seconds: float) -> Iterator[None]:
    """New sockets give up after standing still for `seconds`; torchvision has no setting for that."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _drop_archives(root: Path) -> None:
    for archive in root.rglob("*.gz"):
        archive.unlink()
