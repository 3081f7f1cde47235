"""A checkpoint of any mesh is restored on the same one to the last bit, and on any other with the same numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import mnist_trials as mt
from mnist_trials.events import CheckpointSaved
from mnist_trials.training.trial import Trial
from tests.training.distributed.crew import Crew
from tests.training.distributed.jobs import AGGREGATED, Told, restored, train
from tests.training.distributed.trials import DroppingRows, LoadedRows, Rows
from tests.training.lab import Lab, same

AT = 9  # in the second epoch of 7 batches, in a group of 3, and in a reporting period of 4
END = 16

SINGLE, DATA, TENSOR, BOTH, SHARDED = (
    ((1, 1), False),
    ((2, 1), False),
    ((1, 2), False),
    ((2, 2), False),
    ((2, 1), True),
)
NAMES = {SINGLE: "1", DATA: "2 data", TENSOR: "2 tensor", BOTH: "2x2", SHARDED: "sharded"}
Mesh = tuple[tuple[int, int], bool]


def trained(crew: Crew, mesh: Mesh, folder: Path, trial: type[Trial], *checkpoints: str, every: int = AT) -> list[Told]:
    return crew.run(
        train,
        mesh[0],
        folder,
        shard=mesh[1],
        trial=trial,
        hparams=AGGREGATED,
        options={"checkpoints": checkpoints},
        max_length=mt.Batch(END),
        checkpoint_period=mt.Batch(every),
        checkpoint_policy="none",
        reporting_period=mt.Batch(4),
    )


def saved(ranks: list[Told]) -> str:
    infos = [event.checkpoint for event in ranks[0].events if isinstance(event, CheckpointSaved)]
    assert infos[0].batches == AT
    return infos[0].uuid


@pytest.mark.parametrize("mesh", [DATA, TENSOR, BOTH, SHARDED], ids=NAMES.get)
def test_on_the_same_mesh_training_goes_on_to_the_last_bit(crew: Crew, tmp_path: Path, mesh: Mesh) -> None:
    straight = trained(crew, mesh, tmp_path, DroppingRows)
    resumed = trained(crew, mesh, tmp_path, DroppingRows, saved(straight))
    for one, other in zip(straight, resumed, strict=True):
        assert same(one.weights, other.weights)
        assert same(one.state, other.state)
        assert one.result.metrics == other.result.metrics
        assert not any("checkpoint" in notice for notice in other.notices)
    assert resumed[0].reported == straight[0].reported[2:]


@pytest.mark.slow
@pytest.mark.parametrize("trial", [DroppingRows, LoadedRows], ids=["tensors", "loader"])
def test_from_every_batch_two_ranks_go_on_to_the_last_bit(crew: Crew, tmp_path: Path, trial: type[Trial]) -> None:
    straight = trained(crew, DATA, tmp_path, trial, every=1)
    infos = [event.checkpoint for event in straight[0].events if isinstance(event, CheckpointSaved)]
    assert [info.batches for info in infos] == list(range(1, END + 1))
    for info in infos[:-1]:
        resumed = trained(crew, DATA, tmp_path, trial, info.uuid, every=END)
        for one, other in zip(straight, resumed, strict=True):
            assert same(one.weights, other.weights), info.batches
            assert same(one.state, other.state), info.batches
            assert one.result.metrics == other.result.metrics


PAIRS = [
    (SINGLE, DATA),
    (SINGLE, TENSOR),
    (SINGLE, BOTH),
    (SINGLE, SHARDED),
    (DATA, SINGLE),
    (TENSOR, SINGLE),
    (BOTH, SINGLE),
    (SHARDED, SINGLE),
    (BOTH, SHARDED),
    (DATA, SHARDED),
    (SHARDED, TENSOR),
]


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{NAMES[pair[0]]} to {NAMES[pair[1]]}")
def test_on_another_mesh_everything_but_random_numbers_is_the_same(
    crew: Crew, tmp_path: Path, pair: tuple[Mesh, Mesh]
) -> None:
    written, read = pair
    straight = trained(crew, written, tmp_path, Rows)
    uuid = saved(straight)
    content = Lab(tmp_path).read(uuid)
    assert content.records == 101 + 2 * 16
    (mesh, shard) = read
    states = crew.run(restored, mesh, tmp_path, shard=shard, uuid=uuid, trial=Rows)
    for state in states:
        assert same(state["weights"], dict(content.model))
        assert same(state["optimizers"], content.state["optimizers"])
        assert state["position"] == content.state["position"]
        assert state["data"] == content.state["data"]
    resumed = trained(crew, read, tmp_path, Rows, uuid)
    torch.testing.assert_close(resumed[0].weights, straight[0].weights, rtol=0, atol=1e-5)
    assert resumed[0].result.metrics == pytest.approx(straight[0].result.metrics, abs=1e-5)
    split_alike = written[0][0] == read[0][0]
    for number, (ours, theirs) in enumerate(zip(resumed[0].reported, straight[0].reported[2:], strict=True)):
        begun_anew = {"hits"} if number == 0 and not split_alike else set()
        assert without(ours, begun_anew) == pytest.approx(without(theirs, begun_anew), abs=1e-5)
    told = [notice for notice in resumed[0].notices if "are not those of an undisturbed training" in notice]
    assert len(told) == (not split_alike)
    assert all("train_hits begin their period anew" in notice for notice in told)


def without(metrics: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in metrics.items() if name not in names}


def test_a_checkpoint_of_several_slots_is_read_for_inference_and_by_a_single_one_with_dropout(
    crew: Crew, tmp_path: Path
) -> None:
    straight = trained(crew, BOTH, tmp_path, DroppingRows)
    uuid = saved(straight)
    content = Lab(tmp_path).read(uuid)
    assert content.state["mesh"] == {"data": 2, "tensor": 2, "shard": False}
    assert len(content.state["ranks"]) == 3
    loaded = mt.load_trial(tmp_path / "checkpoints" / uuid, trial_class=DroppingRows)
    assert same(dict(loaded.model.state_dict()), dict(content.model))
    resumed = trained(crew, SINGLE, tmp_path, DroppingRows, uuid)
    assert resumed[0].result.batches == END
    final = Lab(tmp_path).read(str(resumed[0].result.checkpoint))
    assert not {"mesh", "ranks"} & set(final.state)  # what one slot writes has the shape that it always had
