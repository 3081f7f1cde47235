"""A trial's context, as a worker makes one, parameter files of the references, and where MNIST lies."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
import yaml

from mnist_trials.mnist.params import Translation, translate
from mnist_trials.plugin import ExecutionSettings, WorkerSpec, get_plugins
from mnist_trials.records import Slot
from mnist_trials.testing.channel import RecordingChannel
from mnist_trials.training.context import TrialContext
from tests.mnist.translating import FILES, Changed

MakeContext = Callable[..., TrialContext]


@pytest.fixture
def channel() -> RecordingChannel:
    return RecordingChannel()


@pytest.fixture
def make_context(tmp_path: Path, channel: RecordingChannel) -> MakeContext:
    """Makes the context of a trial with the given hyperparameters and `data` section, on one CPU slot."""

    def make(
        hparams: Mapping[str, Any],
        data: Mapping[str, Any],
        *,
        precision: str = "fp32",
        rank: int = 0,
        seed: int = 1,
    ) -> TrialContext:
        slot = Slot(id="cpu:0", backend="cpu", index=0, description="one core", threads=1)
        settings = ExecutionSettings(slots=(slot,), precision=precision, compile=False, deterministic=False, seed=seed)
        plugins = get_plugins()
        spec = WorkerSpec(
            experiment_id=0,
            trial_id=1,
            run=1,
            rank=rank,
            size=1,
            slots=(slot,),
            config={"data": dict(data)},
            hparams=dict(hparams),
            seed=seed,
            context_dir=str(tmp_path),
            trial_dir=str(tmp_path / "trial"),
            log_path=str(tmp_path / "log.txt"),
            checkpoint_root=str(tmp_path / "checkpoints"),
        )
        execution = plugins.find("backend", "cpu").factory({}).open(settings)
        storage = plugins.find("checkpoint_storage", "directory").factory({}, tmp_path / "checkpoints")
        return TrialContext(spec, channel, execution, storage)

    return make


@pytest.fixture(scope="session")
def mnist_root() -> Path:
    """A root that holds the real MNIST."""
    root = Path(os.environ.get("MNIST_TRIALS_DATA") or Path(__file__).parents[3] / "shared" / "mnist")
    if not (root / "MNIST" / "raw" / "train-images-idx3-ubyte").is_file():
        pytest.skip("MNIST is not here; set MNIST_TRIALS_DATA to a folder that holds MNIST/raw")
    return root


@pytest.fixture
def changed(tmp_path: Path) -> Changed:
    """Translates one of FILES with some of its keys changed (None: left out)."""

    def translation(name: str, changes: Mapping[str, Any]) -> Translation:
        document = yaml.safe_load(FILES[name].read_text())
        for path, value in changes.items():
            *sections, key = path.split(".")
            within = reduce(lambda node, section: node.setdefault(section, {}), sections, document)
            within[key] = value
        path = tmp_path / "params.yaml"
        path.write_text(yaml.safe_dump(document))
        return translate(path)

    return translation
