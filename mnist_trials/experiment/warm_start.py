"""Starting a whole experiment from the weights of a checkpoint that is there already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

from mnist_trials.config import ExperimentConfig
from mnist_trials.errors import UsageError
from mnist_trials.store import Reader, open_reader
from mnist_trials.store.rows import CheckpointRow, ExperimentRow

OPTION = "warm_start"
"""Where among an experiment's options its source is kept."""

KEYS = ("searcher.source_trial_id", "searcher.source_checkpoint_uuid")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The checkpoint that the trials of an experiment start from."""

    experiment_id: int
    trial_id: int
    checkpoint: str
    batches: int
    location: str  # its folder, absolute

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Source | None:
        """The source kept among the options of an experiment."""
        kept = options.get(OPTION)
        return None if kept is None else cls(**kept)

    def to_option(self) -> dict[str, Any]:
        """As it is kept among the options."""
        return asdict(self)


def find_source(home: Path, config: ExperimentConfig) -> Source | None:
    """The checkpoint that `searcher.source_trial_id` (its latest) or `searcher.source_checkpoint_uuid` names.

    Raises:
        UsageError: there is no such trial or checkpoint in the store of `home`, or it cannot be used any more.
        StoreError: the store cannot be read.
    """
    trial, uuid = config.searcher.source_trial_id, config.searcher.source_checkpoint_uuid
    if trial is None and uuid is None:
        return None
    with open_reader(home) as reader:
        found = _latest(reader, trial) if trial is not None else reader.checkpoint(uuid or "")
    return _usable(found)


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
        raise UsageError(f"{name} {'was deleted' if row.state == 'DELETED' else 'is damaged'}; choose another one.")
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
