"""What `watch` tells of a trial on several slots is what it tells of one on a single slot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import mnist_trials as mt
from mnist_trials.events import HistogramsReported
from mnist_trials.records import Histogram
from tests.training.distributed.crew import Crew
from tests.training.distributed.jobs import Told, train
from tests.training.lab import SEARCHED

ARGUMENTS: dict[str, Any] = {
    "hparams": {"aggregation_frequency": 2, "max_gradient_norm": 0.01},
    "options": {"config": {**SEARCHED, "watch": {"what": "all", "every": 4}}},
    "max_length": mt.Batch(8),
}


def looks(told: Told) -> list[HistogramsReported]:
    return [event for event in told.events if isinstance(event, HistogramsReported)]


def facts(found: Histogram) -> list[float | None]:
    return [found.minimum, found.maximum, found.mean, found.std]


@pytest.fixture(scope="module")
def single(crew: Crew, tmp_path_factory: pytest.TempPathFactory) -> Told:
    told: Told = crew.run(train, (1, 1), tmp_path_factory.mktemp("single"), **ARGUMENTS)[0]
    return told


@pytest.mark.slow
@pytest.mark.parametrize(("mesh", "shard"), [((2, 1), True), ((2, 2), False)], ids=str)
def test_every_mesh_tells_of_whole_parameters_and_gradients(
    crew: Crew, tmp_path: Path, single: Told, mesh: tuple[int, int], shard: bool
) -> None:
    first, *others = crew.run(train, mesh, tmp_path, shard=shard, **ARGUMENTS)
    assert [looks(rank) for rank in others] == [[]] * len(others)
    assert [event.batches for event in looks(first)] == [4, 8]
    for ours, theirs in zip(looks(first), looks(single), strict=True):
        assert len(theirs.histograms) == 10
        for found, alone in zip(ours.histograms, theirs.histograms, strict=True):
            assert (found.kind, found.name, found.size, sum(found.counts)) == (
                alone.kind,
                alone.name,
                alone.size,
                sum(alone.counts),
            )
            assert facts(found) == pytest.approx(facts(alone), abs=1e-5)
