"""Checkpoints by the names that people give them: a folder, a URL, or an id under a home.

It knows nothing of stores: `mnist_trials.experiment.named_checkpoints` finds those of an experiment's storage too.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from mnist_trials.config.secrets import shown_address
from mnist_trials.errors import CheckpointError
from mnist_trials.plugin import CheckpointStorage, get_plugins

HOME: Final = "MNIST_TRIALS_HOME"

_OF_URLS: Final = "fsspec"  # the storage that takes any URL
_ONE_PROCESS: Final = ("memory",)


def is_url(name: str) -> bool:
    """Whether `name` is a URL, such as s3://bucket/prefix/ID, not a path or an id."""
    return "://" in name


def storage_at(url: str) -> tuple[CheckpointStorage, str]:
    """The storage, for reading, of the checkpoint at `url`, and the checkpoint's id in it.

    Credentials come from where the library of that kind of URL looks for them.

    Raises:
        CheckpointError: it cannot be the URL of a checkpoint.
        PluginError: that kind of URL is unknown, or its library is not installed; the text says how to install it.
    """
    protocol, _, path = url.partition("://")
    place, _, checkpoint_id = path.rstrip("/").rpartition("/")
    if protocol in _ONE_PROCESS:
        raise CheckpointError(
            f"{shown_address(url)} lies in the memory of the process that wrote it, which no other process sees."
        )
    if not protocol or not place:
        raise CheckpointError(
            f"{shown_address(url)} is not the URL of a checkpoint, which is that of its folder, such as "
            "s3://bucket/prefix/ID."
        )
    # Nothing is written, so nothing passes through this folder.
    storage: CheckpointStorage = (
        get_plugins()
        .find("checkpoint_storage", _OF_URLS)
        .make({"url": f"{protocol}://{place}"}, Path(tempfile.gettempdir()))
    )
    return storage, checkpoint_id


def find_checkpoint(name: str | Path, home: Path | None = None) -> Path:
    """The folder of a checkpoint: a path, or an id (or the beginning of one) in a folder under `home`.

    `home` is by default that of the environment.

    Raises:
        CheckpointError: there is none, or there are several.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    home = home or Path(os.environ.get(HOME) or "~/.mnist-trials").expanduser()
    text = str(name)
    found: list[Path] = []
    if text and set(text) <= set("0123456789abcdef-"):
        found = [*home.glob(f"checkpoints/*/{text}*"), *home.glob(f"scripts/*/checkpoints/{text}*")]
    if len(found) == 1:
        return found[0]
    if found:
        raise CheckpointError(f"'{text}' is the beginning of {len(found)} checkpoints under {home}; give more of it.")
    raise CheckpointError(
        f"There is no checkpoint '{text}': it is no folder, and no id of one under {home} begins with it. For a "
        "checkpoint in another storage, give the path of its folder, or its URL."
    )


@contextmanager
def fetched(name: str | Path) -> Iterator[Path]:
    """The checkpoint of that name as a local, read-only folder, for the time of a `with` block.

    `name` is a path, a URL, or what `find_checkpoint` takes.

    Raises:
        CheckpointError: there is no such checkpoint, or it cannot be fetched.
        PluginError: as `storage_at`.
    """
    if not isinstance(name, str) or not is_url(name):
        yield find_checkpoint(name)
        return
    storage, checkpoint_id = storage_at(name)
    with storage.fetch(checkpoint_id) as folder:
        yield folder
