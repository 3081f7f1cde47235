"""Starting a whole experiment from a checkpoint that is there already: from its weights, or from all of its state.

Which one it is, is decided when the experiment is submitted. How its workers get at it:

- One in a folder, by its path. If the store knows it, it is kept until the experiment has ended.
- One in the very storage that the experiment names itself (a fork, mostly), by its id, and kept likewise.
- Any other is brought along at submission, and checked: into the experiment's own files; or, where workers may be on
  other machines, into the experiment's own checkpoint storage. So neither the workers nor the store learn of the
  credentials for where it came from, and what becomes of the original does not matter any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, final

from mnist_trials.checkpoint.named import is_url, storage_at
from mnist_trials.config import ExperimentConfig
from mnist_trials.errors import CheckpointError, UsageError
from mnist_trials.experiment.home import ExperimentFiles
from mnist_trials.experiment.named_checkpoints import NamedCheckpoint, find, of_row, require_usable, storage_of
from mnist_trials.store import Reader, open_reader
from mnist_trials.store.rows import CheckpointRow, ExperimentRow

OPTION = "warm_start"
"""Where among an experiment's options its source is kept."""

_RESUME = "resume.from"
_KEYS = ("searcher.source_trial_id", "searcher.source_checkpoint_uuid")
_RESUMING = "single"  # the searcher whose one trial can go on as the trial that was saved

Copied = Literal["", "files", "storage"]
"""Where an experiment has a copy of its source: nowhere, in its own files, in its own checkpoint storage."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The checkpoint that the trials of an experiment start from."""

    experiment_id: int  # 0: the store of the home does not know it
    trial_id: int
    checkpoint: str
    batches: int
    location: str  # where workers find it: the absolute path of its folder, or its id in the experiment's storage
    whole: bool = False  # all of its state is taken, not the weights alone
    copied: Copied = ""  # "files": it lies in `ExperimentFiles.source`, and `location` says where it came from

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Source | None:
        """The source kept among the options of an experiment."""
        kept = options.get(OPTION)
        return None if kept is None else cls(**kept)

    def to_option(self) -> dict[str, Any]:
        """As it is kept among the options."""
        return asdict(self)

    def for_workers(self, files: ExperimentFiles) -> str:
        """As a worker of the experiment is told of it."""
        return str(files.source / self.checkpoint) if self.copied == "files" else self.location

    def in_words(self) -> str:
        """For a person."""
        if not self.experiment_id:
            return f"checkpoint {self.checkpoint}, after {self.batches:,} batches, from elsewhere"
        return f"trial {self.experiment_id}.{self.trial_id} at batch {self.batches}, checkpoint {self.checkpoint}"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What a submission found out about its source."""

    named: NamedCheckpoint
    source: Source
    to_bring: bool  # workers cannot get at it where it lies


def key_of(config: ExperimentConfig) -> str:
    """The key by which `config` names its source."""
    if config.resume is not None:
        return _RESUME
    return next(key for key in _KEYS if getattr(config.searcher, key.partition(".")[2]))


def find_start(home: Path, config: ExperimentConfig, folder: Path, *, leaves_machine: bool) -> Start | None:
    """The checkpoint that `searcher.source_trial_id` (its latest), `searcher.source_checkpoint_uuid` or `resume` names.

    `folder`: where a relative path begins. `leaves_machine`: workers may be on other machines.

    Raises:
        UsageError: there is no such trial or checkpoint, or it cannot be used any more.
        CheckpointError: it cannot be a checkpoint.
        PluginError: the storage in which it lies cannot be used here.
        StoreError: the store cannot be read.
    """
    trial, uuid = config.searcher.source_trial_id, config.searcher.source_checkpoint_uuid
    if config.resume is not None:
        named = _to_resume(home, config, str(config.resume["from"]), folder)
    elif trial is not None:
        with open_reader(home) as reader:
            named = of_row(_latest(reader, trial))
    elif uuid is not None:
        named = find(home, uuid, folder)
    else:
        return None
    start = _elsewhere(named) if named.row is None else _stored(home, config, named, named.row, leaves_machine)
    return replace(start, source=replace(start.source, whole=config.resume is not None))


def _to_resume(home: Path, config: ExperimentConfig, origin: str, folder: Path) -> NamedCheckpoint:
    searcher = config.searcher
    if searcher.source_trial_id is not None or searcher.source_checkpoint_uuid is not None:
        raise UsageError("to go on from a checkpoint goes with no searcher.source_..., which takes its weights alone.")
    if searcher.name != _RESUMING:
        raise UsageError(
            f"only a trial of the searcher '{_RESUMING}' goes on as the one that was saved; those of '{searcher.name}' "
            "can start with its weights: searcher.source_trial_id or source_checkpoint_uuid."
        )
    if origin in ("last", "best"):
        with open_reader(home) as reader:
            return of_row(_of_the_name(reader, config.name, origin))
    return find(home, origin, folder)


def _of_the_name(reader: Reader, name: str, origin: str) -> CheckpointRow:
    """The checkpoint saved last, or the best, of the newest experiment called `name` that has such a one."""
    for experiment in reversed([row for row in reader.experiments() if row.name == name]):
        if origin == "best":
            best = [trial.best_checkpoint for trial in reader.best_trials(experiment.id, 1) if trial.best_checkpoint]
            if best:
                return reader.checkpoint(best[0])
        elif saved := [row for row in reader.checkpoints(experiment.id) if row.state == "COMPLETED"]:
            return max(saved, key=lambda row: row.created)
    raise UsageError(
        f"no experiment called '{name}' in {reader.home} has a checkpoint to go on from. '{origin}' is that of the "
        "newest one of this name; give the path, the URL or the id of another."
    )


def _latest(reader: Reader, name: str) -> CheckpointRow:
    experiment, _, number = name.partition(".")
    trial = reader.trial(int(experiment), int(number))
    if trial.latest_checkpoint is None:
        raise UsageError(f"trial {name} ({trial.state}) has no checkpoint to start from.")
    return reader.checkpoint(trial.latest_checkpoint)


def _elsewhere(named: NamedCheckpoint) -> Start:
    """From a checkpoint that the store does not know: a folder that a person looks after, or a URL."""
    source = Source(experiment_id=0, trial_id=0, checkpoint=named.uuid, batches=0, location=named.location)
    if is_url(named.location):
        storage_at(named.location)  # it may be no URL of a checkpoint, or its library be missing
        return Start(named=named, source=source, to_bring=True)  # its manifest is read when it is here
    from mnist_trials.checkpoint import read_manifest

    try:
        manifest = read_manifest(Path(named.location))
    except CheckpointError as error:
        raise UsageError(f"{named.location} cannot be gone on from. {error}") from error
    source = replace(source, trial_id=manifest.trial_id, batches=manifest.batches)
    return Start(named=named, source=source, to_bring=False)


def _stored(
    home: Path, config: ExperimentConfig, named: NamedCheckpoint, row: CheckpointRow, leaves_machine: bool
) -> Start:
    require_usable(row)
    source = Source(
        experiment_id=row.experiment_id,
        trial_id=row.trial_id,
        checkpoint=row.uuid,
        batches=row.batches,
        location=row.location,
    )
    with open_reader(home) as reader:
        experiment = reader.experiment(row.experiment_id)
    storage = storage_of(home, experiment)
    theirs, ours = ExperimentConfig.from_dict(experiment.config).checkpoint_storage.storage, config.checkpoint_storage
    if theirs is not None and theirs == ours.storage:
        return Start(named=named, source=replace(source, location=row.uuid), to_bring=False)
    if not Path(row.location).is_absolute() or (storage.local and leaves_machine):
        return Start(named=named, source=source, to_bring=True)
    if not Path(row.location, "manifest.json").is_file():
        name = f"checkpoint {row.uuid} of trial {row.experiment_id}.{row.trial_id}"
        raise UsageError(f"{name} is not where it was stored any more: {row.location}.")
    return Start(named=named, source=source, to_bring=False)


def experiments_starting_from(reader: Reader, experiment_id: int) -> list[ExperimentRow]:
    """The experiments, not ended, that need a checkpoint of `experiment_id` to start their trials from."""
    waiting = [row for row in reader.experiments() if not row.state.ended and row.id != experiment_id]
    sources = ((row, Source.of(row.options)) for row in waiting)
    return [
        row
        for row, source in sources
        if source is not None and source.experiment_id == experiment_id and not source.copied
    ]
