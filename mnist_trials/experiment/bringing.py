"""Copies of checkpoints: brought from wherever they lie, and whole or not there."""

from __future__ import annotations

import os
import shutil
import uuid
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from mnist_trials.checkpoint import Manifest, read_manifest, verify
from mnist_trials.errors import CheckpointError, UsageError
from mnist_trials.experiment.home import ExperimentFiles
from mnist_trials.experiment.named_checkpoints import NamedCheckpoint, held
from mnist_trials.experiment.staging import staging
from mnist_trials.experiment.warm_start import Source, Start
from mnist_trials.plugin import CheckpointStorage
from mnist_trials.plugin.copying import Progress, copy_files

_PREFIX = ".mnist-trials-download-"


def bring(home: Path, named: NamedCheckpoint, folder: Path, told: Progress) -> Manifest:
    """Copy a checkpoint into `folder`, empty so far, compare it with its manifest, and return that.

    Raises:
        UsageError, PluginError: as `named_checkpoints.held`.
        CheckpointError: it is not there, cannot be read or copied, or is damaged.
    """
    with held(home, named) as at:
        if at.storage is not None:
            at.storage.bring(at.stored_as, folder, told)
        else:
            read_manifest(Path(at.location))  # else it might be a folder of anything
            copy_files(Path(at.location), folder, told)
    return verify(folder)


def download(home: Path, named: NamedCheckpoint, target: Path, told: Progress) -> Manifest:
    """Make `target`, an empty folder or none so far, a copy of a checkpoint; cut off, nothing of it is to be seen.

    Raises:
        UsageError: `target` cannot be written; else as `bring`.
        CheckpointError, PluginError: as `bring`.
    """
    target = target.resolve()
    try:
        with staging(target.parent, _PREFIX) as folder:
            manifest = bring(home, named, folder, told)
            _make_durable(folder)
            folder.rename(target)
    except OSError as error:
        raise UsageError(f"{target} cannot be written: {error.strerror}") from error
    return manifest


def bring_source(home: Path, start: Start, folder: Path, storage: CheckpointStorage | None) -> Source:
    """Copy what a new experiment starts from into its files, which are put together in `folder`, or into `storage`.

    Raises:
        UsageError, CheckpointError, PluginError: as `bring`; or `storage` cannot be written.
    """
    source = start.source
    copy = folder / ExperimentFiles(home, 0).source.name / source.checkpoint
    copy.mkdir(parents=True)
    manifest = bring(home, start.named, copy, _unheard)
    source = replace(source, batches=manifest.batches, trial_id=manifest.trial_id, copied="files")
    if storage is None:
        return source
    stored_as = str(uuid.uuid4())
    try:
        copy_files(copy, storage.begin(stored_as), _unheard)
        storage.commit(stored_as)
    except BaseException:
        with suppress(CheckpointError):
            storage.delete(stored_as)
        raise
    shutil.rmtree(copy.parent)
    return replace(source, location=stored_as, copied="storage")


def remove_source(files: ExperimentFiles, source: Source | None, storage: CheckpointStorage) -> None:
    """Remove an experiment's own copy of what it started from, if it has one.

    Raises:
        CheckpointError: it could not be removed.
    """
    if source is not None and source.copied == "storage":
        storage.delete(source.location)
    shutil.rmtree(files.source, ignore_errors=True)


def _unheard(_done: int, _total: int) -> None:
    pass


def _make_durable(folder: Path) -> None:
    for path in (*folder.rglob("*"), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
