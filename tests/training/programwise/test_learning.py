"""`compile: program`: the numbers of a training without it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy
from typing_extensions import override

import mnist_trials as mt
from tests.training.lab import Lab, Small, samples, unit
from tests.training.programwise.pairs import Normed, Scheduled, apart, both

OPTIMIZERS: list[dict[str, Any]] = [
    {"optimizer": "sgd"},
    {"optimizer": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    {"optimizer": "adadelta", "learning_rate": 1.0},
    {"optimizer": "adagrad"},
    {"optimizer": "adam", "learning_rate": 0.01, "amsgrad": True},
    {"optimizer": "adamax", "learning_rate": 0.01},
    {"optimizer": "adamw", "learning_rate": 0.01},
    {"optimizer": "asgd"},
    {"optimizer": "nadam", "learning_rate": 0.01},
    {"optimizer": "radam", "learning_rate": 0.01},
    {"optimizer": "rmsprop", "learning_rate": 0.001, "momentum": 0.9, "centered": True},
    {"optimizer": "rprop", "learning_rate": 0.01},
]


@pytest.mark.parametrize("hparams", OPTIMIZERS, ids=lambda h: h["optimizer"])
def test_a_program_learns_what_the_optimizer_learns_without_it(lab: Lab, hparams: dict[str, Any]) -> None:
    eager, program = both(lab, Small, hparams)
    assert apart(eager, program) < 1e-6
    assert program.result.metrics == pytest.approx(eager.result.metrics, abs=1e-6)


def test_one_program_is_made_for_each_shape_and_the_record_says_what_became_of_it(lab: Lab) -> None:
    _, program = both(lab, Small)
    told = [text for text in program.notices if text.startswith("Program ")]
    assert [text.split("'")[1] for text in told] == ["train", "train", "evaluate", "evaluate"]
    assert all("not compiled" in text and "no-such-compiler" in text for text in told)


@pytest.mark.parametrize(
    "hparams",
    [
        {"max_gradient_norm": 0.1},
        {"max_gradient_value": 0.01},
        {"max_gradient_norm": 0.05, "max_gradient_value": 0.02, "aggregation_frequency": 2},
        {"aggregation_frequency": 3},
        {"aggregation_frequency": 3, "optimizer": "adam", "learning_rate": 0.01},
    ],
    ids=str,
)
def test_clipping_and_aggregation_are_in_the_program(lab: Lab, hparams: dict[str, Any]) -> None:
    eager, program = both(lab, Small, hparams)
    assert apart(eager, program) < 1e-6
    assert any("'train.update'" in text for text in program.notices) == ("aggregation_frequency" in hparams)


@pytest.mark.parametrize("hparams", [{}, {"aggregation_frequency": 2}], ids=str)
def test_a_schedule_changes_the_rate_and_no_program(lab: Lab, hparams: dict[str, Any]) -> None:
    eager, program = both(lab, Scheduled, hparams)
    assert apart(eager, program) < 1e-6
    names = [text.split("'")[1] for text in program.notices if text.startswith("Program ")]
    assert len(names) == len(set(names)) + 2  # the last batches of training and validation are shorter


def test_buffers_are_kept_up(lab: Lab) -> None:
    eager, program = both(lab, Normed)
    assert int(program.weights["2.num_batches_tracked"]) == 20
    assert apart(eager, program) < 1e-6


@pytest.mark.parametrize(("precision", "tolerance"), [("bf16-mixed", 2e-3), ("bf16-true", 2e-2)])
def test_precisions_are_in_the_program(lab: Lab, precision: str, tolerance: float) -> None:
    eager, program = both(lab, Small, precision=precision)
    assert {w.dtype for w in program.weights.values()} == {w.dtype for w in eager.weights.values()}
    assert apart(eager, program) < tolerance
    assert not torch.is_autocast_enabled("cpu")


def test_a_scaled_loss_leaves_the_update_to_the_runtime(lab: Lab) -> None:
    eager, program = both(lab, Small, {"max_gradient_norm": 0.5}, loss_scale=64.0)
    assert apart(eager, program) < 1e-6
    assert not any("update" in text for text in program.notices)


class ByName(Small):
    """Batches are maps, and one sample counts as two."""

    @override
    def build_data(self) -> Any:
        images, labels = samples()
        rows = [{"image": unit(image), "label": label} for image, label in zip(images, labels, strict=True)]
        train, validation = (torch.utils.data.DataLoader(part, batch_size=8) for part in (rows, rows[:30]))
        return train, validation

    @override
    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        loss = cross_entropy(self.model(batch["image"]), batch["label"])
        return {"loss": mt.weighted(loss, 2 * len(batch["label"])), "double": 2 * loss}

    @override
    def evaluate_batch(self, batch: Any, batch_idx: int) -> Any:
        return {"validation_loss": cross_entropy(self.model(batch["image"]), batch["label"])}


@pytest.mark.parametrize("hparams", [{}, {"aggregation_frequency": 2}], ids=str)
def test_batches_may_be_maps_and_metrics_may_be_weighted(lab: Lab, hparams: dict[str, Any]) -> None:
    eager, program = both(lab, ByName, hparams)
    assert apart(eager, program) < 1e-6


class Recurrent(Small):
    @override
    def build_model(self) -> Any:
        class Model(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layers = torch.nn.LSTM(4, 5, num_layers=2, batch_first=True, dropout=0.2)
                self.out = torch.nn.Linear(5, 3)

            @override
            def forward(self, images: torch.Tensor) -> Any:
                return self.out(self.layers(images)[0][:, -1])

        return Model()


def test_a_recurrent_layer_is_learnt_by_a_program(lab: Lab) -> None:
    eager, program = both(lab, Recurrent)
    assert apart(eager, program) < 1e-6
