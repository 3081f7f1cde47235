"""A small project, and the spec of a trial in it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mnist_trials.config import load
from mnist_trials.plugin import WorkerSpec
from mnist_trials.records import Slot

MODEL = """
import torch
import mnist_trials as mt


class Tiny(mt.Trial):
    def __init__(self, context):
        super().__init__(context)
        if context.hparams.get("nonsense"):
            raise mt.InvalidHP("no trial can be like this")

    def build_model(self):
        return torch.nn.Linear(4, 2)

    def build_data(self):
        inputs = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
        data = torch.utils.data.TensorDataset(inputs, (inputs.sum(1) > 0).long())
        return data, data

    def train_batch(self, batch, epoch_idx, batch_idx):
        if batch_idx == self.context.hparams.get("fail_at"):
            self.fail()
        return torch.nn.functional.cross_entropy(self.model(batch[0]), batch[1])

    def fail(self):
        exec(self.context.hparams["fail_by"])

    def evaluate_batch(self, batch, batch_idx):
        return {"validation_loss": torch.nn.functional.cross_entropy(self.model(batch[0]), batch[1])}


class NoTrial:
    pass


def function(context):
    pass
"""

CONFIG = """
name: tiny
entrypoint: model:Tiny
hyperparameters: {global_batch_size: 8, learning_rate: 0.1, optimizer: sgd}
searcher: {name: single, metric: validation_loss, max_length: {batches: 20}}
"""

SpecMaker = Callable[..., WorkerSpec]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The folder of the user's code."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "model.py").write_text(MODEL)
    (folder / "const.yaml").write_text(CONFIG)
    return folder


@pytest.fixture
def spec(project: Path, tmp_path: Path) -> SpecMaker:
    """Makes the spec of a trial of `project`; `entrypoint` in place of the config's, hyperparameters beside its own."""

    def make(entrypoint: object = "model:Tiny", **hparams: Any) -> WorkerSpec:
        config = load({**load(project / "const.yaml").config.to_dict(), "entrypoint": entrypoint}).config
        trial = tmp_path / "trial"
        trial.mkdir(exist_ok=True)
        return WorkerSpec(
            experiment_id=1,
            trial_id=2,
            run=3,
            rank=0,
            size=1,
            slots=(Slot(id="cpu:0", backend="cpu", index=0, description="a CPU", threads=1),),
            config=config.to_dict(),
            hparams={**config.hyperparameters, **hparams},
            seed=5,
            context_dir=str(project),
            trial_dir=str(trial),
            log_path=str(trial / "log.txt"),
            checkpoint_root=str(tmp_path / "checkpoints"),
        )

    return make


@pytest.fixture
def own_modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lets a test import modules of its project, and forgets them."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).find("/project/") > 0:
            del sys.modules[name]
