from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from mnist_trials.experiment import api
from mnist_trials.experiment.home import ExperimentFiles
from mnist_trials.experiment.life import take_charge
from mnist_trials.plugin import Logger
from mnist_trials.store import Reader, open_reader
from mnist_trials.testing.waiting import wait_until

HERE = Path(__file__).parent
DEADLINE = 60


class Lab:
    """A home, a context, and experiments in them whose workers are the fake ones."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.context = folder / "context"
        self.context.mkdir()
        (self.context / "fake_trial.py").write_text("class Fake:\n    pass\n")

    def config(self, length: int = 6, launcher: str = "inline", **hparams: Any) -> dict[str, Any]:
        return {
            "name": "fake",
            "entrypoint": "fake_trial:Fake",
            "hyperparameters": hparams,
            "searcher": {"name": "single", "metric": "loss", "max_length": {"batches": length}},
            "launcher": launcher,
            "backend": "cpu",
            "checkpoint_storage": {"save_trial_latest": 1000},  # all of them
        }

    def submit(self, config: dict[str, Any] | None = None, /, **options: Any) -> int:
        return api.submit(config or self.config(), self.context, home=self.home, **options)

    def run(self, experiment_id: int, followers: Sequence[Logger] = ()) -> dict[str, Any]:
        return take_charge(self.home, experiment_id, followers, target="fake_worker:run")

    def trial(self, **hparams: Any) -> dict[str, Any]:
        """Run an experiment of one trial to its end; returns the summary."""
        return self.run(self.submit(self.config(**hparams)))

    def reader(self) -> Reader:
        return open_reader(self.home)

    def files(self, experiment_id: int) -> ExperimentFiles:
        return ExperimentFiles(self.home, experiment_id)

    def notices(self, experiment_id: int = 1) -> str:
        with self.reader() as reader:
            return "\n".join(notice.message for notice in reader.notices(experiment_id))

    def start(self, experiment_id: int, fault: str | None = None) -> subprocess.Popen[str]:
        """A controller in a process of its own."""
        environment = dict(os.environ)
        if fault is not None:
            environment["MNIST_TRIALS_FAULT"] = fault
        return subprocess.Popen(
            [sys.executable, str(HERE / "drive.py"), str(self.home), str(experiment_id)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def finish(self, process: subprocess.Popen[str]) -> dict[str, Any]:
        """What a controller printed when it was done."""
        out, err = process.communicate(timeout=DEADLINE)
        assert process.returncode == 0, err
        document: dict[str, Any] = json.loads(out)
        return document

    def wait_until_holding(self, experiment_id: int = 1) -> None:
        """Until a trial holds, and all it said before is stored."""
        wait_until(lambda: "holding" in self.notices(experiment_id))

    def values(self, experiment_id: int = 1, trial_id: int = 1) -> list[tuple[str, int, Any]]:
        """All metrics that count: kind, batches, values."""
        with self.reader() as reader:
            return [(row.kind, row.batches, row.metrics) for row in reader.metrics(experiment_id, trial_id)]


def make_lab(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    return Lab(folder)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    return make_lab(tmp_path, monkeypatch)


@pytest.fixture(scope="session")
def another_lab(tmp_path_factory: pytest.TempPathFactory) -> Callable[[pytest.MonkeyPatch], Lab]:
    """Makes labs that outlive a test."""
    return lambda monkeypatch: make_lab(tmp_path_factory.mktemp("lab"), monkeypatch)
