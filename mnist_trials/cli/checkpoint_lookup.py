"""Finding the checkpoint that a person named, and bringing it here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, final

from mnist_trials.cli import lookup
from mnist_trials.cli.command import Invocation
from mnist_trials.cli.report import hint
from mnist_trials.errors import UsageError

if TYPE_CHECKING:
    from mnist_trials.store.rows import CheckpointRow

WHICH = "its id, the beginning of its id, or its folder"
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
    """The checkpoint that `name` calls: an id, the beginning of one, or a folder.

    Raises:
        UsageError: there is none, or it is not there any more.
        CheckpointError: it cannot be fetched.
    """
    path = Path(name)
    if path.is_dir() or "/" in name:
        yield Found(path.absolute().name, path.absolute())
        return
    with lookup.reading(call) as reader:
        row = reader.checkpoint(name)
    with fetched(call, row) as checkpoint:
        yield checkpoint


@contextmanager
def fetched(call: Invocation, row: CheckpointRow) -> Iterator[Found]:
    """The checkpoint of a row of the store, brought here if it lies elsewhere."""
    from mnist_trials.config import ExperimentConfig
    from mnist_trials.experiment.home import ExperimentFiles
    from mnist_trials.experiment.in_use import reading
    from mnist_trials.experiment.machinery import Workshop
    from mnist_trials.plugin import get_plugins

    files = ExperimentFiles(call.home, row.experiment_id)
    with ExitStack() as held:
        held.enter_context(reading(files, row.uuid))
        with lookup.reading(call) as reader:  # once more: it may have been given up before it was held
            row = reader.checkpoint(row.uuid)
            experiment = reader.experiment(row.experiment_id)
        if row.state != "COMPLETED":
            why = "is damaged" if row.state == "DAMAGED" else "was deleted by the checkpoint policy"
            others = hint(call, f"checkpoints {row.experiment_id}")
            raise UsageError(f"checkpoint {row.uuid} {why}; `{others}` shows the others")
        workshop = Workshop(get_plugins(), ExperimentConfig.from_dict(experiment.config), experiment.options)
        folder = held.enter_context(workshop.storage(files.checkpoints).fetch(row.uuid))
        yield Found(row.uuid, folder, experiment.options.get("data_root"))
