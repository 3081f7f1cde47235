from pathlib import Path

import pytest
import torch

from mnist_trials.checkpoint import CheckpointContent
from mnist_trials.plugin import CheckpointStorage, get_plugins


@pytest.fixture
def storage(tmp_path: Path) -> CheckpointStorage:
    storage: CheckpointStorage = get_plugins().find("checkpoint_storage", "directory").factory({}, tmp_path / "kept")
    return storage


@pytest.fixture
def content() -> CheckpointContent:
    weight = torch.arange(6.0).reshape(2, 3)
    return CheckpointContent(
        model={"embed.weight": weight, "head.weight": weight, "turned": weight.t(), "bias": torch.ones(2)},
        state={"optimizer": {"state": {0: {"step": torch.tensor(3.0), "lr": (0.1, float("nan"))}}}, "epoch": 1},
        batches=30,
        epochs=0.5,
        records=1920,
        metrics={"accuracy": 0.75, "loss": float("inf"), "other": None},
        hparams={"lr": 0.1, "layers": [3, 4], "nested": {"näme": None}},
        trial_class="model:MyTrial",
        experiment_id=3,
        trial_id=1,
        config={"name": "const", "searcher": {"name": "single"}},
        code="/home/me/.mnist-trials/experiments/3/context",
    )
