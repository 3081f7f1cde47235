"""Programs on several data ranks: gradients by one, averaged by the backend, the update by another."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch.nn.functional import cross_entropy
from typing_extensions import override

import mnist_trials as mt
from mnist_trials.events import Notice
from mnist_trials.plugin import Layout
from tests.training.distributed.crew import Broken, Crew
from tests.training.distributed.jobs import Told, train
from tests.training.lab import CLASSES, SEARCHED, Small, samples, unit

PROGRAM = {**SEARCHED, "compile": "program"}


class Uneven(Small):
    """37 samples in global batches of 16: the last has 5, of which no two ranks have as many."""

    @override
    def build_model(self) -> Any:
        return torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(16, 8), torch.nn.Tanh(), torch.nn.Linear(8, CLASSES)
        )

    @override
    def build_data(self) -> Any:
        return mt.TensorData(*samples(37), unit), mt.TensorData(*samples(9, seed=1), unit)

    @override
    def evaluate_batch(self, batch: Any, batch_idx: int) -> Mapping[str, Any]:
        return {"validation_loss": cross_entropy(self.model(batch[0]), batch[1])}


def train_as_captured(layout: Layout, folder: Path, **keywords: Any) -> Told:
    """`train` where there is no compiler."""
    with patch.dict("os.environ", CXX="no-such-compiler", MNIST_TRIALS_HOME=str(folder / "home")):
        return train(layout, folder, **keywords)


def trained(
    crew: Crew,
    mesh: tuple[int, int],
    folder: Path,
    *,
    trial: type[mt.Trial] = Uneven,
    shard: bool = False,
    **options: Any,
) -> list[Told]:
    return crew.run(
        train_as_captured,
        mesh,
        folder,
        shard=shard,
        trial=trial,
        hparams={"global_batch_size": 16, "aggregation_frequency": 2, "max_gradient_norm": 0.5, "momentum": 0.9},
        options=options,
        max_length=mt.Batch(8),
    )


def test_two_data_ranks_learn_by_programs_what_one_learns_without(crew: Crew, tmp_path: Path) -> None:
    (alone,) = trained(crew, (1, 1), tmp_path / "alone")
    together = trained(crew, (2, 1), tmp_path / "together", config=PROGRAM)
    for rank in together:
        assert rank.weights.keys() == alone.weights.keys()
        assert all(torch.allclose(rank.weights[name], alone.weights[name], atol=1e-6) for name in alone.weights)
        assert rank.result.metrics == pytest.approx(alone.result.metrics, abs=1e-6)
    told = [[event.message for event in rank.events if isinstance(event, Notice)] for rank in together]
    assert any("'train.update'" in text for text in told[0])
    assert not any("Program" in text for text in told[1])  # the first one speaks for all


class Weighed(Uneven):
    """17 samples in global batches of 16: for the last one there is a sample on one rank only."""

    @override
    def build_data(self) -> Any:
        return mt.TensorData(*samples(17), unit), mt.TensorData(*samples(9, seed=1), unit)

    @override
    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        loss = cross_entropy(self.model(batch[0]), batch[1])
        return {"loss": mt.weighted(loss, len(batch[1]))}


def test_a_rank_for_which_no_sample_is_left_has_no_say_whatever_its_loss_weighs(crew: Crew, tmp_path: Path) -> None:
    eager = trained(crew, (2, 1), tmp_path / "eager", trial=Weighed)
    program = trained(crew, (2, 1), tmp_path / "program", trial=Weighed, config=PROGRAM)
    for name, weight in eager[0].weights.items():
        assert torch.allclose(program[0].weights[name], weight, atol=1e-6)


@pytest.mark.slow
def test_parameters_that_are_split_are_refused(crew: Crew, tmp_path: Path) -> None:
    with pytest.raises(Broken, match="A program needs whole parameters, and `shard: true` splits them"):
        trained(crew, (2, 1), tmp_path, shard=True, config=PROGRAM)
