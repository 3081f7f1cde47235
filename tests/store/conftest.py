from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mnist_trials.records import TrialState
from mnist_trials.store import Store, open_store
from mnist_trials.store.rows import CheckpointRow, MetricRow, RunRow, TrialRow
from tests.clocks import HandClock

CONFIG: dict[str, Any] = {"searcher": {"name": "single", "metric": "loss", "smaller_is_better": True}}


def trial(experiment_id: int = 1, trial_id: int = 1, **changes: Any) -> TrialRow:
    row = TrialRow(
        experiment_id=experiment_id,
        trial_id=trial_id,
        state=TrialState.QUEUED,
        hparams={"lr": 0.1, "layers": [1, 2]},
        seed=7,
    )
    return replace(row, **changes)


def run(trial_id: int = 1, number: int = 1, **changes: Any) -> RunRow:
    row = RunRow(
        trial_id=trial_id,
        run=number,
        backend="cpu",
        device="cpu",
        slots=("cpu:0",),
        started=1.0,
    )
    return replace(row, **changes)


def metric(batches: int, loss: float | None, kind: str = "validation", number: int = 1, trial_id: int = 1) -> MetricRow:
    return MetricRow(
        trial_id=trial_id,
        run=number,
        kind=kind,
        batches=batches,
        epochs=batches / 10,
        records=batches * 4,
        metrics={"loss": loss},
        seconds=0.5,
        time=2.0,
    )


def checkpoint(uuid: str, batches: int = 5, trial_id: int = 1, experiment_id: int = 1) -> CheckpointRow:
    return CheckpointRow(
        uuid=uuid,
        experiment_id=experiment_id,
        trial_id=trial_id,
        run=1,
        state="COMPLETED",
        batches=batches,
        epochs=0.5,
        records=20,
        metrics={"loss": 1.0},
        bytes=100,
        location=f"/checkpoints/{uuid}",
        created=3.0,
    )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def store(home: Path) -> Iterator[Store]:
    with open_store(home, HandClock(1000.0)) as opened:
        yield opened


@pytest.fixture
def with_trial(store: Store) -> Store:
    """A store with experiment 1 and its trial 1."""
    with store.transaction() as transaction:
        transaction.add_experiment("one", CONFIG, {})
        transaction.put_trial(trial())
    return store


@pytest.fixture
def make() -> type:
    """Makes rows."""

    class Make:
        config = CONFIG
        trial = staticmethod(trial)
        run = staticmethod(run)
        metric = staticmethod(metric)
        checkpoint = staticmethod(checkpoint)

    return Make
