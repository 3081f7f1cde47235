"""Saves of several ranks: each copies its own parts, rank 0 writes them one by one, and ranks may fail meanwhile."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

import mnist_trials as mt
from mnist_trials.checkpoint import read_manifest
from mnist_trials.events import CheckpointSaved
from mnist_trials.training.trial import Trial
from tests.training.distributed.crew import DEADLINE, Broken, Crew
from tests.training.distributed.jobs import AGGREGATED, train
from tests.training.distributed.saving_jobs import (
    FailsOnRank1,
    OtherOptimizer,
    Tied,
    Wide,
    disturbed,
    saved_twice,
)
from tests.training.distributed.trials import Rows
from tests.training.lab import Lab, same

TWO, TENSOR, BOTH = (2, 1), (1, 2), (2, 2)
CLOSED, OPEN = 3, 4  # batches, where gradients of 3 are a group
RANDOM_STATES = 12_000  # bytes, of each rank
FILES = ("model.safetensors", "optimizer.safetensors", "state.json")
EVERY_TWO: dict[str, Any] = {
    "max_length": mt.Batch(6),
    "checkpoint_period": mt.Batch(2),
    "checkpoint_policy": "none",
}
LATE = EVERY_TWO | {"checkpoint_period": mt.Batch(3)}  # and an error in batch 4


def saved_at(batches: int, crew: Crew, mesh: tuple[int, int], folder: Path, trial: type[Trial], shard: bool) -> str:
    ranks = crew.run(
        train,
        mesh,
        folder,
        shard=shard,
        trial=trial,
        hparams=AGGREGATED,
        max_length=mt.Batch(5),
        checkpoint_period=mt.Batch(batches),
        checkpoint_policy="none",
    )
    return next(event.checkpoint.uuid for event in ranks[0].events if isinstance(event, CheckpointSaved))


@pytest.mark.parametrize("batches", [CLOSED, OPEN])
@pytest.mark.parametrize(("mesh", "shard"), [(TWO, True), (TENSOR, False), (BOTH, True)])
def test_each_rank_copies_its_share_and_the_files_are_those_that_a_single_one_writes(
    crew: Crew, tmp_path: Path, mesh: tuple[int, int], shard: bool, batches: int
) -> None:
    uuid = saved_at(batches, crew, mesh, tmp_path, Wide, shard)
    ranks = crew.run(saved_twice, mesh, tmp_path, shard=shard, uuid=uuid, trial=Wide)
    sizes = {name: size for name, size in ranks[0]["bytes"].items() if "state.ranks" not in name}
    large = sum(size for size in sizes.values() if size > 100)
    for rank in ranks:
        assert 0.9 * large / len(ranks) < rank["held"] < 1.1 * large / len(ranks) + RANDOM_STATES * len(ranks)
    assert ranks[0]["buffer"] == max(sizes.values())
    left, right = (tmp_path / "checkpoints" / name for name in (ranks[0]["uuid"], "together"))
    assert (left / FILES[0]).read_bytes() == (right / FILES[0]).read_bytes()
    ours, theirs = (Lab(tmp_path).read(folder.name) for folder in (left, right))
    assert same(ours.state, theirs.state)
    if batches == CLOSED:
        assert all((left / name).read_bytes() == (right / name).read_bytes() for name in FILES)
    else:  # gradients that several ranks hold parts of stand in the state of each of these, and in the file once
        names = [name for name in load_file(left / FILES[1]) if "gradients" in name]
        assert len(names) == sum(".gradients." in name for name in sizes)
        assert len(names) < sum(".gradients." in name for name in ranks[0]["bytes"])


def test_gradients_that_a_rank_has_alone_are_its_own_to_give(crew: Crew, tmp_path: Path) -> None:
    uuid = saved_at(OPEN, crew, TWO, tmp_path, Wide, shard=False)
    first, second = crew.run(saved_twice, TWO, tmp_path, uuid=uuid, trial=Wide)
    own = sum(size for name, size in first["bytes"].items() if name.startswith("state.ranks.0.gradients"))
    assert second["held"] == own > 0
    rest = sum(first["bytes"].values()) - own  # and arrays, which are not counted there
    assert rest <= first["held"] < rest + RANDOM_STATES
    left, right = (Lab(tmp_path).read(name) for name in (first["uuid"], "together"))
    assert same(left.state, right.state)
    gradients = [left.state["stepper"]["gradients"], left.state["ranks"][0]["gradients"]]
    assert gradients[0].keys() == gradients[1].keys()
    assert not same(gradients[0], gradients[1])


@pytest.mark.slow
def test_where_nothing_is_split_other_ranks_hold_nothing(crew: Crew, tmp_path: Path) -> None:
    uuid = saved_at(CLOSED, crew, TWO, tmp_path, Wide, shard=False)
    first, second = crew.run(saved_twice, TWO, tmp_path, uuid=uuid, trial=Wide)
    assert (second["held"], first["buffer"]) == (0, 0)


def test_tied_weights_that_are_split_are_stored_once_and_tied_again(crew: Crew, tmp_path: Path) -> None:
    uuid = saved_at(CLOSED, crew, TWO, tmp_path, Tied, shard=True)
    folder = tmp_path / "checkpoints"
    assert list(read_manifest(folder / uuid).tied) == ["3.weight"]
    assert sorted(load_file(folder / uuid / FILES[0])) == ["1.weight", "5.bias", "5.weight"]
    (alone,) = crew.run(saved_twice, (1, 1), tmp_path, uuid=uuid, trial=Tied)
    assert (folder / alone["uuid"] / FILES[0]).read_bytes() == (folder / uuid / FILES[0]).read_bytes()
    straight, resumed = (
        crew.run(
            train,
            TWO,
            tmp_path,
            shard=True,
            trial=Tied,
            hparams=AGGREGATED,
            max_length=mt.Batch(8),
            checkpoint_policy="none",
            options={"checkpoints": checkpoints},
        )
        for checkpoints in ((), (uuid,))
    )
    assert all(same(one.weights, other.weights) for one, other in zip(straight, resumed, strict=True))


def test_ranks_that_hold_other_tensors_are_told_apart_where_they_would_save(crew: Crew, tmp_path: Path) -> None:
    first, second = crew.run(disturbed, TWO, tmp_path, shard=True, trial=OtherOptimizer, **EVERY_TWO)
    assert first["end"] == second["end"]
    assert "rank 1 has nothing where rank 0 needs state.optimizers.optimizer.state.0.momentum_buffer" in first["end"]
    assert Lab(tmp_path).storage.ids() == []


def test_a_try_that_fails_between_two_files_is_made_again_with_the_same_parts(crew: Crew, tmp_path: Path) -> None:
    undisturbed = crew.run(train, TWO, tmp_path / "whole", shard=True, trial=Rows, **EVERY_TWO)
    first, second = crew.run(
        disturbed, TWO, tmp_path, shard=True, fault=(0, "checkpoint.model_written:raise"), **EVERY_TWO
    )
    assert (first["end"], second["end"]) == ("", "")
    assert [text.split(";")[0] for text in first["notices"]] == [
        "Saving after 2 batches has failed (try 1 of at most 3)"
    ]
    expected = [e.checkpoint.uuid for e in undisturbed[0].events if isinstance(e, CheckpointSaved)]
    assert len(first["saved"]) == len(expected) == 3
    for ours, theirs in zip(first["saved"], expected, strict=True):
        left, right = Lab(tmp_path).read(ours), Lab(tmp_path / "whole").read(theirs)
        assert same(dict(left.model), dict(right.model))
        assert same(left.state["optimizers"], right.state["optimizers"])


@pytest.fixture
def doomed() -> Iterator[Crew]:
    """Processes that may be killed, and whoever is left has something to tell."""
    made = Crew(grace=DEADLINE)
    yield made
    made.dismiss()


def told(doomed: Crew, folder: Path, **keywords: Any) -> list[dict[str, Any]]:
    """What the ranks said of a training that not all processes have survived."""
    with pytest.raises(Broken, match="rank 1: the process has ended"):
        doomed.run(disturbed, TWO, folder, shard=True, alone=True, **keywords)
    return [ast.literal_eval(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("told-*"))]


@pytest.mark.slow
def test_a_rank_that_fails_gives_its_parts_before_it_ends(doomed: Crew, tmp_path: Path) -> None:
    first, second = told(doomed, tmp_path, trial=FailsOnRank1, held_until="raised", **LATE)
    assert second["end"] == "ZeroDivisionError: my own"
    assert first["end"].startswith("RuntimeError: ")
    assert len(first["saved"]) == 1
    assert first["saved"] == Lab(tmp_path).storage.ids()


@pytest.mark.slow
def test_a_rank_that_has_waited_long_enough_ends_and_the_save_under_way_fails(doomed: Crew, tmp_path: Path) -> None:
    patience = {"held_until": "told-1", "last_seconds": {1: 0.0}}
    first, second = told(doomed, tmp_path, trial=FailsOnRank1, **patience, **LATE)
    assert second["end"] == "ZeroDivisionError: my own"
    assert first["end"].startswith("RuntimeError: ")
    assert "An error ends training. The save that was under way then failed: " in first["notices"][-1]
    assert (first["saved"], Lab(tmp_path).storage.ids()) == ([], [])


def test_a_rank_that_is_killed_while_it_gives_its_parts_costs_no_checkpoint_but_that_one(
    doomed: Crew, tmp_path: Path
) -> None:
    asked = 6 * 2 - 1  # parts of weights and momenta, of which rank 1 has none of the last bias
    arguments = EVERY_TWO | {"max_length": mt.Batch(40)}
    (first,) = told(doomed, tmp_path, fault=(1, f"parts.asked:kill:{asked}"), **arguments)
    assert first["end"].startswith("RuntimeError: ")
    assert "An error ends training. The save that was under way then failed: " in first["notices"][-1]
    assert len(first["saved"]) == 1
    assert first["saved"] == Lab(tmp_path).storage.ids()
    assert Lab(tmp_path).read(first["saved"][0]).batches == 2
