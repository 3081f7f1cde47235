"""A home, a store with something in it, and two ways to call the program: in this process and as itself."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from mnist_trials.cli.main import main
from mnist_trials.records import ErrorInfo, ExperimentState, TrialState
from mnist_trials.store import open_store
from mnist_trials.store.rows import CheckpointRow, MetricRow, TrialRow
from tests.cli.written_search import SINGLE, Record

BEST = "11111111-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
LATEST = "22222222-bbbb-4bbb-8bbb-bbbbbbbbbbbb"


@dataclass(frozen=True)
class Outcome:
    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """stdout as one strict JSON document."""

        def refuse(constant: str) -> None:
            raise ValueError(f"{constant} is not JSON")

        return json.loads(self.out, parse_constant=refuse)


Call = Callable[..., Outcome]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "home"
    monkeypatch.setenv("MNIST_TRIALS_HOME", str(path))
    return path


@pytest.fixture
def cli(home: Path, capfd: pytest.CaptureFixture[str]) -> Call:
    """Calls `main` in this process."""

    def call(*arguments: object) -> Outcome:
        capfd.readouterr()
        status = main([str(argument) for argument in arguments])
        return Outcome(status, *capfd.readouterr())

    return call


@pytest.fixture
def program(home: Path) -> Call:
    """Runs `python -m mnist_trials` as a process of its own."""

    def call(*arguments: object, **variables: str) -> Outcome:
        return run_program(arguments, variables)

    return call


def run_program(arguments: Sequence[object], variables: Mapping[str, str]) -> Outcome:
    done = subprocess.run(
        [sys.executable, "-m", "mnist_trials", *(str(argument) for argument in arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1", **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def on_terminal(home: Path) -> Call:
    """Runs the program with a terminal as stdin, on which `typed` is typed."""

    def call(*arguments: object, typed: str) -> Outcome:
        ours, theirs = pty.openpty()
        try:
            os.write(ours, typed.encode())
            done = subprocess.run(
                [sys.executable, "-m", "mnist_trials", *(str(argument) for argument in arguments)],
                stdin=theirs,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        finally:
            os.close(ours)
            os.close(theirs)
        return Outcome(done.returncode, done.stdout, done.stderr)

    return call


TRIAL = TrialRow(
    experiment_id=1,
    trial_id=1,
    state=TrialState.COMPLETED,
    hparams={"lr": 0.1, "hidden": 32},
    seed=7,
    batches=100,
    epochs=1.0,
    records=6400,
    total_batches=100,
    restarts=0,
    stopped_early=False,
    dataset="mnist",
    dataset_fallback=False,
    best_metric=0.05,
    best_batches=100,
    best_metrics={"validation_loss": 0.05, "accuracy": 0.98},
    best_checkpoint=BEST,
    latest_checkpoint=LATEST,
    error=None,
    message="",
)

ERROR = ErrorInfo(
    type="ValueError",
    message="the layer does not fit",
    traceback='Traceback (most recent call last):\n  File "trial.py", line 3\nValueError: the layer does not fit\n',
    batches=12,
)


@pytest.fixture
def trial_row() -> TrialRow:
    """A completed trial."""
    return TRIAL


@pytest.fixture
def record(home: Path, trial_row: TrialRow) -> Record:
    written = Record(home, trial_row)
    written.trials(12)
    return written


@pytest.fixture
def stored(home: Path) -> Path:
    """A home with a completed experiment of one trial (1) and one of two trials that ended in error (2)."""
    with open_store(home) as store, store.transaction() as transaction:
        first = transaction.add_experiment("digits", SINGLE, {})
        transaction.put_trial(TRIAL)
        for kind, batches, metrics in (
            ("training", 50, {"loss": 0.5}),
            ("training", 100, {"loss": None}),
            ("validation", 100, {"validation_loss": 0.05, "accuracy": 0.98}),
        ):
            metric = MetricRow(
                trial_id=1,
                run=1,
                kind=kind,
                batches=batches,
                epochs=batches / 100,
                records=64 * batches,
                metrics=metrics,
                seconds=1.5,
                time=1_700_000_000.0,
            )
            transaction.add_metrics(first, metric)
        for uuid in (BEST, LATEST):
            transaction.put_checkpoint(
                CheckpointRow(
                    uuid=uuid,
                    experiment_id=first,
                    trial_id=1,
                    run=1,
                    state="COMPLETED",
                    batches=100,
                    epochs=1.0,
                    records=6400,
                    metrics={"accuracy": 0.98},
                    bytes=4_800_000,
                    location=f"/checkpoints/1/{uuid}",
                    created=1_700_000_000.0,
                )
            )
        transaction.add_notice(first, 1, "the mirror was slow")
        transaction.update_experiment(first, state=ExperimentState.COMPLETED, progress=1.0, add_seconds=12.34)
        second = transaction.add_experiment("broken", SINGLE, {})
        for trial_id in (1, 2):
            broken = replace(
                TRIAL,
                experiment_id=second,
                trial_id=trial_id,
                state=TrialState.ERROR,
                error=ERROR,
                best_metric=None,
                best_batches=None,
                best_metrics={},
                best_checkpoint=None,
                latest_checkpoint=None,
                batches=12,
            )
            transaction.put_trial(broken)
        transaction.update_experiment(second, state=ExperimentState.ERROR)
    return home


TRIAL_FILE = '''"""A trial that is done in a moment, and can be told to go wrong."""

import torch

import mnist_trials as mt


class Tiny(mt.Trial):
    def build_model(self):
        if self.context.hparams["fault"] == "hparam":
            self.context.hparams["widht"]
        return torch.nn.Linear(4, self.context.hparams["width"])

    def build_optimizer(self, model):
        return torch.optim.SGD(model.parameters(), lr=0.1)

    def build_data(self):
        generator = torch.Generator().manual_seed(1)
        images = torch.rand(64, 4, generator=generator)
        data = torch.utils.data.TensorDataset(images, (images.sum(1) > 2).long())
        return data, data

    def train_batch(self, batch, epoch_idx, batch_idx):
        images, labels = batch
        if self.context.hparams["fault"] == "raise" and batch_idx == 3:
            raise ArithmeticError("the third batch is cursed")
        if self.context.hparams["fault"] == "shape":
            images = images[:, :3]
        loss = torch.nn.functional.cross_entropy(self.model(images), labels)
        return loss * float("nan") if self.context.hparams["fault"] == "nan" else loss

    def evaluate_batch(self, batch, batch_idx):
        print("validating")
        images, labels = batch
        logits = self.model(images)
        loss = torch.nn.functional.cross_entropy(logits, labels)
        return {"validation_loss": loss, "accuracy": (logits.argmax(1) == labels).float().mean()}
'''

CONFIG = """
name: tiny
entrypoint: tiny:Tiny
hyperparameters: {global_batch_size: 16, width: 2, fault: none}
searcher: {name: single, metric: validation_loss, max_length: {batches: 8}}
max_restarts: 0
scheduling_unit: 2
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A config, `tiny.yaml`, beside the code of its trial."""
    return write_project(tmp_path / "project")


def write_project(folder: Path) -> Path:
    folder.mkdir()
    (folder / "tiny.py").write_text(TRIAL_FILE)
    config = folder / "tiny.yaml"
    config.write_text(CONFIG)
    return config


@dataclass(frozen=True)
class Trained:
    home: Path
    created: Outcome  # what `create` printed


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A home with one experiment that `create` has run. Not to be changed."""
    folder = tmp_path_factory.mktemp("trained")
    config = write_project(folder / "project")
    return Trained(folder / "home", run_program(["--home", folder / "home", "create", config], {}))
