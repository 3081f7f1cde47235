"""Trials loaded from checkpoints, and their evaluation."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mnist_trials as mt
from mnist_trials.errors import CheckpointError, DataError, TrialError
from mnist_trials.training.evaluation import evaluate
from tests.training.lab import Lab, Run, Small


class Trained(Small):
    """Of a module that can be imported."""


def folder(lab: Lab, run: Run) -> Path:
    return lab.folder / "checkpoints" / str(run.result.checkpoint)


def test_a_trial_comes_back_with_its_weights_and_evaluates_as_it_did(lab: Lab) -> None:
    run = lab.fit(Trained)
    trial = mt.load_trial(folder(lab, run), Trained)
    assert not trial.model.training
    assert all(torch.equal(trial.model.state_dict()[name], run.weights[name]) for name in run.weights)
    assert trial.context.hparams == run.context.hparams
    assert evaluate(trial, trial.context) == run.result.metrics


def test_the_class_is_found_by_the_name_in_the_checkpoint(lab: Lab) -> None:
    run = lab.fit(Trained)
    trial = mt.load_trial(folder(lab, run))
    assert type(trial).__name__ == "Trained"
    assert evaluate(trial, trial.context) == run.result.metrics


def test_the_class_is_imported_from_the_snapshot_of_its_code(lab: Lab) -> None:
    name = f"snapshot_{random.Random(str(lab.folder)).getrandbits(64):x}"
    (lab.folder / f"{name}.py").write_text("from tests.training.lab import Small\nclass Found(Small):\n    pass\n")
    run = lab.fit(type("Found", (Small,), {"__module__": name}))
    assert type(mt.load_trial(folder(lab, run))).__module__ == name


def test_a_class_that_cannot_be_found_says_what_to_do(lab: Lab) -> None:
    for module, message in (("nowhere_at_all", "cannot be imported: No module"), ("__main__", "defined in a script")):
        run = lab.fit(type("Gone", (Small,), {"__module__": module}))
        with pytest.raises(TrialError, match=rf"{message}.*load_trial\(checkpoint, trial_class=MyTrial\)"):
            mt.load_trial(folder(lab, run))
    run = lab.fit(type("Gone", (Small,), {"__module__": "math"}))
    with pytest.raises(TrialError, match="'math:Gone' is no Trial class here"):
        mt.load_trial(folder(lab, run))


def test_loading_leaves_random_state_and_settings_alone(lab: Lab) -> None:
    run = lab.fit(Trained)
    threads = torch.get_num_threads()
    before = random.getstate(), np.random.get_state()[2], torch.get_rng_state()  # type: ignore[index]
    mt.load_trial(folder(lab, run), Trained)
    assert random.getstate() == before[0]
    assert np.random.get_state()[2] == before[1]  # type: ignore[index]
    assert torch.equal(torch.get_rng_state(), before[2])
    assert torch.get_num_threads() == threads


def test_a_checkpoint_is_found_under_the_home_by_the_beginning_of_its_id(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MNIST_TRIALS_HOME", str(tmp_path / "home"))
    for place in ("checkpoints/3", "scripts/train/checkpoints"):
        run = lab.fit(Trained)
        uuid = str(run.result.checkpoint)
        shutil.copytree(folder(lab, run), tmp_path / "home" / place / uuid)
        assert type(mt.load_trial(uuid[:13], Trained)) is Trained
    with pytest.raises(CheckpointError, match="There is no checkpoint 'ffffffff-0000'"):
        mt.load_trial("ffffffff-0000", Trained)
    with pytest.raises(CheckpointError, match=r"There is no checkpoint '../3'"):
        mt.load_trial("../3", Trained)
    shutil.copytree(tmp_path / "home" / "checkpoints" / "3", tmp_path / "home" / "checkpoints" / "4")
    uuid = next((tmp_path / "home" / "checkpoints" / "4").iterdir()).name
    with pytest.raises(CheckpointError, match="is the beginning of 2 checkpoints"):
        mt.load_trial(uuid[:8], Trained)


def test_a_damaged_checkpoint_is_not_loaded(lab: Lab) -> None:
    run = lab.fit(Trained)
    path = folder(lab, run) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"model.safetensors"):
        mt.load_trial(folder(lab, run), Trained)


def test_another_model_is_refused(lab: Lab) -> None:
    class Wider(Small):
        def build_model(self) -> Any:
            return torch.nn.Linear(16, 5)

    run = lab.fit(Trained)
    with pytest.raises(TrialError, match="do not fit the model"):
        mt.load_trial(folder(lab, run), Wider)


def test_a_trial_that_was_never_loaded_is_built_for_evaluation(lab: Lab) -> None:
    context = lab.context()
    assert set(evaluate(Small(context), context)) == {"validation_loss", "accuracy"}


def test_evaluation_wants_data(lab: Lab) -> None:
    class Absent(Small):
        def build_data(self) -> Any:
            raise DataError("no MNIST here")

    context = lab.context()
    with pytest.raises(DataError, match="no MNIST here"):
        evaluate(Absent(context), context)
