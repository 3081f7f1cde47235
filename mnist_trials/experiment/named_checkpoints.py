"""The checkpoint that a person named, wherever it lies, and how to get hold of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import final

from mnist_trials.checkpoint.named import find_checkpoint, is_url, storage_at
from mnist_trials.config import ExperimentConfig
from mnist_trials.errors import CheckpointError, StoreError, UsageError
from mnist_trials.experiment.home import ExperimentFiles
from mnist_trials.experiment.in_use import reading
from mnist_trials.experiment.machinery import Workshop
from mnist_trials.plugin import CheckpointStorage, get_plugins
from mnist_trials.store import open_reader
from mnist_trials.store.rows import CheckpointRow, ExperimentRow

_GIVEN_UP = ("DELETING", "DELETED")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class NamedCheckpoint:
    """A checkpoint that was found by its name, not read yet."""

    uuid: str
    location: str  # the absolute path of its folder, or its URL
    row: CheckpointRow | None = None  # None: the store does not know it


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A checkpoint that is kept as long as it is held, and where it lies."""

    location: str
    storage: CheckpointStorage | None = None  # None: `location` is its folder
    stored_as: str = ""  # its id there
    data_root: str | None = None  # where its experiment found its data


def find(home: Path, name: str, folder: Path | None = None) -> NamedCheckpoint:
    """The checkpoint that `name` calls: an id or the beginning of one, a path (from `folder` on), or a URL.

    One that the store of `home` knows is found as such by any of these names.

    Raises:
        UsageError: no checkpoint has such an id, or several have.
        StoreError: the store cannot be read, and `name` is an id.
    """
    if is_url(name):
        location = name.rstrip("/")
        row = _known(home, location.rpartition("/")[2], location)
        return NamedCheckpoint(uuid=location.rpartition("/")[2], location=location, row=row)
    path = (folder or Path.cwd()) / Path(name).expanduser()
    if path.is_dir() or "/" in name:
        path = path.absolute()
        return NamedCheckpoint(uuid=path.name, location=str(path), row=_known(home, path.name, str(path)))
    with open_reader(home) as reader:
        try:
            row = reader.checkpoint(name)
        except UsageError:
            if (found := _of_a_script(home, name)) is None:
                raise
            return NamedCheckpoint(uuid=found.name, location=str(found))
    return of_row(row)


def of_row(row: CheckpointRow) -> NamedCheckpoint:
    """A checkpoint of the store."""
    return NamedCheckpoint(uuid=row.uuid, location=row.location, row=row)


@contextmanager
def held(home: Path, named: NamedCheckpoint) -> Iterator[Held]:
    """Keep a checkpoint from being deleted for the time of a `with` block, as far as the store knows it.

    Raises:
        UsageError: it was given up, or is damaged.
        CheckpointError: its location is not that of a checkpoint.
        PluginError: its storage cannot be used here.
    """
    if named.row is None:
        if not is_url(named.location):
            yield Held(location=named.location)
            return
        storage, stored_as = storage_at(named.location)
        yield Held(location=named.location, storage=storage, stored_as=stored_as)
        return
    files = ExperimentFiles(home, named.row.experiment_id)
    with reading(files, named.uuid):
        with open_reader(home) as reader:  # once more: it may have been given up before it was held
            row = reader.checkpoint(named.uuid)
            experiment = reader.experiment(row.experiment_id)
        require_usable(row)
        yield Held(
            location=named.location,
            storage=storage_of(home, experiment),
            stored_as=row.uuid,
            data_root=experiment.options.get("data_root"),
        )


@contextmanager
def fetched(home: Path, named: NamedCheckpoint) -> Iterator[tuple[Path, Held]]:
    """The checkpoint as a local, read-only folder, held for the time of a `with` block.

    Raises:
        UsageError, PluginError: as `held`.
        CheckpointError: it is not there, or cannot be fetched.
    """
    with ExitStack() as stack:
        at = stack.enter_context(held(home, named))
        fetch = None if at.storage is None else at.storage.fetch(at.stored_as)
        yield (Path(at.location) if fetch is None else stack.enter_context(fetch)), at


def storage_of(home: Path, experiment: ExperimentRow) -> CheckpointStorage:
    """Where the checkpoints of an experiment lie.

    Raises:
        PluginError: that storage cannot be used here.
    """
    workshop = Workshop(get_plugins(), ExperimentConfig.from_dict(experiment.config), experiment.options)
    return workshop.storage(ExperimentFiles(home, experiment.id).checkpoints)


def require_usable(row: CheckpointRow) -> None:
    """Check that a checkpoint of the store is still there to be used.

    Raises:
        UsageError: it was given up, or is damaged.
    """
    if row.state == "COMPLETED":
        return
    what = "is damaged" if row.state == "DAMAGED" else "was deleted by the checkpoint policy"
    raise UsageError(
        f"checkpoint {row.uuid} of trial {row.experiment_id}.{row.trial_id} {what}; "
        f"`mnist-trials checkpoints {row.experiment_id}` shows the others"
    )


def _known(home: Path, uuid: str, location: str) -> CheckpointRow | None:
    """The row of the checkpoint at `location`; None for one of elsewhere, and for a copy."""
    try:
        with open_reader(home) as reader:
            row = reader.checkpoint(uuid) if uuid else None
    except (StoreError, UsageError):  # a folder is readable where the store is not
        return None
    if row is None or row.uuid != uuid or not _same(row.location, location):
        return None
    # A damaged one says itself what is wrong with it.
    return row if row.state == "COMPLETED" or row.state in _GIVEN_UP else None


def _same(stored: str, given: str) -> bool:
    return stored == given or (not is_url(given) and Path(stored).resolve() == Path(given).resolve())


def _of_a_script(home: Path, name: str) -> Path | None:
    """The checkpoint of that id that a plain script has written; the store does not know those."""
    try:
        return find_checkpoint(name, home)
    except CheckpointError:
        return None
