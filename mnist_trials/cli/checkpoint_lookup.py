"""Finding the checkpoint that a person named, and bringing it here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, final

from mnist_trials.cli.command import Invocation

if TYPE_CHECKING:
    from mnist_trials.experiment.named_checkpoints import NamedCheckpoint
    from mnist_trials.store.rows import CheckpointRow

WHICH = "its id, the beginning of its id, its folder, or its URL such as s3://bucket/prefix/ID"
"""Help for the argument CHECKPOINT."""


@final
@dataclass(frozen=True, slots=True)
class Found:
    """A checkpoint as a local, read-only folder."""

    uuid: str
    folder: Path
    data_root: str | None = None  # where its experiment found its data


@contextmanager
def found(call: Invocation, name: str) -> Iterator[Found]:
    """The checkpoint that `name` calls: an id, the beginning of one, a folder, or a URL.

    It is not deleted in the meantime, by whichever name a checkpoint of the store was called.

    Raises:
        UsageError: there is none, or it is not there any more.
        CheckpointError: it cannot be fetched.
    """
    from mnist_trials.experiment.named_checkpoints import find

    with _fetched(call, find(call.home, name)) as checkpoint:
        yield checkpoint


@contextmanager
def fetched(call: Invocation, row: CheckpointRow) -> Iterator[Found]:
    """The checkpoint of a row of the store, brought here if it lies elsewhere; raises what `found` does."""
    from mnist_trials.experiment.named_checkpoints import of_row

    with _fetched(call, of_row(row)) as checkpoint:
        yield checkpoint


@contextmanager
def _fetched(call: Invocation, named: NamedCheckpoint) -> Iterator[Found]:
    from mnist_trials.experiment.named_checkpoints import fetched as brought_here

    with brought_here(call.home, named) as (folder, at):
        yield Found(named.uuid, folder, at.data_root)
