"""Trials loaded from checkpoints, and their evaluation."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from torchmetrics.classification import MulticlassAccuracy

import mnist_trials as mt
from mnist_trials.errors import CheckpointError, DataError, TrialError
from mnist_trials.training.evaluation import evaluate
from tests.training.lab import Lab, Run, Small, same


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


class Counts(torch.nn.Linear):
    """Keeps a number that is no tensor beside its weights."""

    calls = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.calls += self.training
        return super().forward(images)

    def get_extra_state(self) -> Any:
        return {"calls": self.calls}

    def set_extra_state(self, state: Any) -> None:
        self.calls = state["calls"]


class Counting(Small):
    def build_model(self) -> Any:
        return torch.nn.Sequential(torch.nn.Flatten(), Counts(16, 3))


def test_what_a_module_keeps_beside_its_tensors_comes_back(lab: Lab) -> None:
    run = lab.fit(Counting)
    trial = mt.load_trial(folder(lab, run), Counting)
    assert trial.model[1].calls == 10
    assert evaluate(trial, trial.context) == run.result.metrics
    warm = lab.fit(Counting, lab.context(warm_start=run.result.checkpoint), max_length=mt.Batch(5))
    assert warm.trial.model[1].calls == 15


class Thresholded(Small):
    """What it gives depends on a state of the trial's own."""

    threshold = 0

    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        self.threshold = batch_idx
        return super().train_batch(batch, epoch_idx, batch_idx)

    def evaluate_batch(self, batch: Any, batch_idx: int) -> Any:
        return {"validation_loss": self.threshold}

    def state_dict(self) -> dict[str, Any]:
        return {"threshold": self.threshold}

    def load_state_dict(self, state: Any) -> None:
        self.threshold = state["threshold"]


def test_the_trials_own_state_comes_back(lab: Lab) -> None:
    run = lab.fit(Thresholded)
    trial = mt.load_trial(folder(lab, run), Thresholded)
    assert evaluate(trial, trial.context) == run.result.metrics == {"validation_loss": 9.0}


class OfItsData(Small):
    def build_data(self) -> Any:
        self.classes = 3
        return super().build_data()

    def build_model(self) -> Any:
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, self.classes))


def test_a_model_that_needs_the_data_to_be_built_is_told_that_it_cannot_be_loaded(lab: Lab) -> None:
    run = lab.fit(OfItsData)
    with pytest.raises(TrialError, match=r"uses self\.classes, which is not there.*without build_data"):
        mt.load_trial(folder(lab, run), OfItsData)


class Sent(MulticlassAccuracy):
    """Remembers where it was sent."""

    where: Any = None

    def to(self, *args: Any, **kwargs: Any) -> Any:
        self.where = args[0]
        return super().to(*args, **kwargs)


class CountedHits(Small):
    def __init__(self, context: Any) -> None:
        super().__init__(context)
        self.hits = Sent(3, average="micro")

    def evaluate_batch(self, batch: Any, batch_idx: int) -> Any:
        self.hits.update(self.model(batch[0]), batch[1])
        return {"validation_loss": 1.0, "accuracy": self.hits}


def test_a_torchmetrics_object_is_brought_to_the_device_for_evaluation(lab: Lab) -> None:
    run = lab.fit(CountedHits)
    trial = mt.load_trial(folder(lab, run), CountedHits)
    assert trial.hits.where is None
    assert evaluate(trial, trial.context) == run.result.metrics
    assert trial.hits.where == trial.context.device


@pytest.mark.parametrize("built", ["model", "dict"])
def test_tied_weights_and_batch_norm_come_back(lab: Lab, built: str) -> None:
    class Tied(Small):
        def build_model(self) -> Any:
            one, two = torch.nn.Linear(16, 16), torch.nn.Linear(16, 16)
            two.weight = one.weight
            layers = torch.nn.Sequential(torch.nn.Flatten(), one, torch.nn.BatchNorm1d(16), two, torch.nn.Linear(16, 3))
            return layers if built == "model" else {"layers": layers}

        def layers(self) -> Any:
            return self.model if built == "model" else self.model["layers"]

        def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
            return cross_entropy(self.layers()(batch[0]), batch[1])

        def evaluate_batch(self, batch: Any, batch_idx: int) -> Any:
            return {"validation_loss": cross_entropy(self.layers()(batch[0]), batch[1])}

    straight = lab.fit(Tied)
    half = lab.fit(Tied, max_length=mt.Batch(4))
    resumed = lab.fit(Tied, lab.context(checkpoints=[str(half.result.checkpoint)]))
    assert same(resumed.weights, straight.weights)
    trial = mt.load_trial(folder(lab, straight), Tied)
    assert evaluate(trial, trial.context) == straight.result.metrics
    names = [name for name, _ in trial.model.named_parameters(remove_duplicate=False) if name.endswith("weight")]
    assert len({trial.model.get_parameter(name).data_ptr() for name in names}) == len(names) - 1


def test_loading_leaves_a_determinism_of_the_scripts_own_alone(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    run = lab.fit(Trained)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        mt.load_trial(folder(lab, run), Trained)
        assert torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.backends.cudnn.deterministic
        torch.use_deterministic_algorithms(False)
        mt.load_trial(folder(lab, run), Trained)
        assert torch.backends.cudnn.deterministic
    finally:
        torch.use_deterministic_algorithms(False)
