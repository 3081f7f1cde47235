"""Experiments that never ran, to be written into a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mnist_trials.config import load
from mnist_trials.store import open_store
from mnist_trials.store.rows import TrialRow

CONFIG: dict[str, Any] = {
    "name": "search",
    "hyperparameters": {"lr": {"type": "double", "minval": 0, "maxval": 1}, "hidden": 32},
    "searcher": {
        "name": "asha",
        "metric": "validation_loss",
        "smaller_is_better": True,
        "max_length": {"batches": 1024},
        "max_trials": 20,
    },
}
SINGLE = load(
    {"entrypoint": "python3 train.py", "searcher": {"name": "single", "metric": "validation_loss"}}
).config.to_dict()
WHY = {"bracket": 0, "rung": 1, "units": 256, "rank": 5, "of": 9, "kept": 2, "threshold": 0.31}

Actions = Sequence[Mapping[str, Any]]


def actions(*names_and_trials: tuple[str, int]) -> Actions:
    return [{"action": name, "trial_id": trial} for name, trial in names_and_trials]


class Record:
    """An experiment whose searcher's decisions are written down one by one."""

    def __init__(self, home: Path, trial_row: TrialRow, config: dict[str, Any] = CONFIG) -> None:
        self.home = home
        self.row = trial_row
        with open_store(home) as store, store.transaction() as transaction:
            self.id = transaction.add_experiment("search", config, {})

    def trials(self, count: int, **changes: Any) -> None:
        with open_store(self.home) as store, store.transaction() as transaction:
            for trial_id in range(1, count + 1):
                hparams = {"lr": trial_id / 10, "hidden": 32}
                row = replace(self.row, experiment_id=self.id, trial_id=trial_id, hparams=hparams, **changes)
                transaction.put_trial(row)

    def decided(self, trial_id: int | None, event: str, taken: Actions, **what: Any) -> None:
        with open_store(self.home) as store, store.transaction() as transaction:
            transaction.add_decision(self.id, trial_id, event, taken, **what)

    def validated(self, trial_id: int, metric: float | None, taken: Actions, units: int = 256) -> None:
        self.decided(trial_id, "validation_completed", taken, units=units, metric=metric)
