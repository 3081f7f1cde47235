"""Trainings on several ranks give the numbers of one on a single slot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import mnist_trials as mt
from mnist_trials.events import ValidationCompleted
from tests.training.distributed.crew import Crew
from tests.training.distributed.jobs import Told, train
from tests.training.lab import same

STEPS = 50
MESHES = [
    pytest.param((2, 1), False, id="2 data"),
    pytest.param((1, 2), False, id="2 tensor"),
    pytest.param((2, 2), False, id="2 data x 2 tensor"),
    pytest.param((2, 1), True, id="2 data, sharded"),
]


def told_of_validation(told: Told) -> dict[str, Any]:
    (event,) = [event for event in told.events if isinstance(event, ValidationCompleted)]
    return dict(event.metrics)


def long_training(crew: Crew, mesh: tuple[int, int], folder: Path, shard: bool = False) -> list[Told]:
    return crew.run(train, mesh, folder, shard=shard, max_length=mt.Batch(STEPS), reporting_period=mt.Batch(1))


@pytest.fixture(scope="module")
def single(crew: Crew, tmp_path_factory: pytest.TempPathFactory) -> Told:
    return long_training(crew, (1, 1), tmp_path_factory.mktemp("single"))[0]


@pytest.mark.parametrize(("mesh", "shard"), MESHES)
def test_every_mesh_gives_the_numbers_of_one_slot_and_twice_the_same_bits(
    crew: Crew, tmp_path: Path, single: Told, mesh: tuple[int, int], shard: bool
) -> None:
    first = long_training(crew, mesh, tmp_path, shard)
    assert len(first[0].reported) == STEPS
    for ours, theirs in zip(first[0].reported, single.reported, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-6)
    assert told_of_validation(first[0]) == pytest.approx(told_of_validation(single), abs=1e-6)
    torch.testing.assert_close(first[0].weights, single.weights, rtol=0, atol=1e-6)
    assert first[0].result.records == single.result.records
    assert (first[0].result.batches, first[0].result.epochs) == (STEPS, single.result.epochs)
    for rank in first[1:]:
        assert rank.events == []  # rank 0 alone speaks, as long as there is nothing to notice
        assert rank.result == first[0].result
        assert same(rank.weights, first[0].weights)
    split = mesh[1] > 1 or shard
    assert all((rank.held < single.held) is split for rank in first)
    second = long_training(crew, mesh, tmp_path / "again", shard)
    assert second[0].reported == first[0].reported
    assert same(second[0].weights, first[0].weights)
