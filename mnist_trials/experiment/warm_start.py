"""Starting a whole experiment from a checkpoint that is there already: from its weights, or from all of its state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, final

from mnist_trials.config import ExperimentConfig
from mnist_trials.errors import CheckpointError, UsageError
from mnist_trials.store import Reader, open_reader
from mnist_trials.store.rows import CheckpointRow, ExperimentRow

OPTION = "warm_start"
"""Where among an experiment's options its source is kept."""

_RESUME = "resume.from"
_KEYS = ("searcher.source_trial_id", "searcher.source_checkpoint_uuid")
_RESUMING = "single"  # the searcher whose one trial can go on as the trial that was saved


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The checkpoint that the trials of an experiment start from."""

    experiment_id: int
    trial_id: int
    checkpoint: str
    batches: int
    location: str  # its folder, absolute
    whole: bool = False  # all of its state is taken, not the weights alone

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Source | None:
        """The source kept among the options of an experiment."""
        kept = options.get(OPTION)
        return None if kept is None else cls(**kept)

    def to_option(self) -> dict[str, Any]:
        """As it is kept among the options."""
        return asdict(self)


def key_of(config: ExperimentConfig) -> str:
    """The key by which `config` names its source."""
    if config.resume is not None:
        return _RESUME
    return next(key for key in _KEYS if getattr(config.searcher, key.partition(".")[2]))


def find_source(home: Path, config: ExperimentConfig, folder: Path) -> Source | None:
    """The checkpoint that `searcher.source_trial_id` (its latest), `searcher.source_checkpoint_uuid` or `resume` names.

    `folder`: where a relative path begins.

    Raises:
        UsageError: there is no such trial or checkpoint in the store of `home`, or it cannot be used any more.
        StoreError: the store cannot be read.
    """
    trial, uuid = config.searcher.source_trial_id, config.searcher.source_checkpoint_uuid
    if config.resume is not None:
        return replace(_to_resume(home, config, str(config.resume["from"]), folder), whole=True)
    if trial is None and uuid is None:
        return None
    with open_reader(home) as reader:
        found = _latest(reader, trial) if trial is not None else reader.checkpoint(uuid or "")
    return _usable(found)


def _to_resume(home: Path, config: ExperimentConfig, origin: str, folder: Path) -> Source:
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
            return _usable(_of_the_name(reader, config.name, origin))
    path = folder / Path(origin).expanduser()
    if path.is_dir() or "/" in origin:
        return _at(path, home)
    with open_reader(home) as reader:
        return _usable(reader.checkpoint(origin))


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
        "newest one of this name; give the path or the id of another."
    )


def _at(path: Path, home: Path) -> Source:
    from mnist_trials.checkpoint import read_manifest

    try:
        manifest = read_manifest(path)
    except CheckpointError as error:
        raise UsageError(f"{path} cannot be gone on from. {error}") from error
    return Source(
        experiment_id=manifest.experiment_id if _is_of(home, path.name) else 0,  # 0: of none in this home
        trial_id=manifest.trial_id,
        checkpoint=path.name,
        batches=manifest.batches,
        location=str(path.absolute()),
    )


def _is_of(home: Path, uuid: str) -> bool:
    with open_reader(home) as reader:
        try:
            return reader.checkpoint(uuid).uuid == uuid
        except UsageError:
            return False


def experiments_starting_from(reader: Reader, experiment_id: int) -> list[ExperimentRow]:
    """The experiments, not ended, that need a checkpoint of `experiment_id` to start their trials from."""
    waiting = [row for row in reader.experiments() if not row.state.ended and row.id != experiment_id]
    sources = ((row, Source.of(row.options)) for row in waiting)
    return [row for row, source in sources if source is not None and source.experiment_id == experiment_id]


def _latest(reader: Reader, name: str) -> CheckpointRow:
    experiment, _, number = name.partition(".")
    trial = reader.trial(int(experiment), int(number))
    if trial.latest_checkpoint is None:
        raise UsageError(f"trial {name} ({trial.state}) has no checkpoint to start from.")
    return reader.checkpoint(trial.latest_checkpoint)


def _usable(row: CheckpointRow) -> Source:
    name = f"checkpoint {row.uuid} of trial {row.experiment_id}.{row.trial_id}"
    if row.state != "COMPLETED":
        raise UsageError(f"{name} {'is damaged' if row.state == 'DAMAGED' else 'was deleted'}; choose another one.")
    if not Path(row.location).is_absolute():
        raise UsageError(f"{name} lies at {row.location}: trials start from a checkpoint in a folder only.")
    if not Path(row.location, "manifest.json").is_file():
        raise UsageError(f"{name} is not where it was stored any more: {row.location}.")
    return Source(
        experiment_id=row.experiment_id,
        trial_id=row.trial_id,
        checkpoint=row.uuid,
        batches=row.batches,
        location=row.location,
    )
