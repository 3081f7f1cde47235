"""A rank that is killed while it gives its part of a checkpoint: the trial goes on from the one before."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.support import Command

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="a trial of two slots needs two cores"),
]

PARTS = 4  # of a save: two layers, weight and bias
IN_THE_SECOND_SAVE = {"MNIST_TRIALS_FAULT": f"parts.asked:kill:{PARTS + 2}"}


def test_each_time_a_rank_is_killed_nothing_that_was_recorded_is_lost(
    command: Command, written: Callable[..., Path]
) -> None:
    config = written(
        resources={"slots_per_trial": 2},
        shard=True,
        launcher="local",
        searcher={"name": "single", "metric": "validation_loss", "max_length": {"epochs": 3}},
        min_checkpoint_period={"batches": 15},
        checkpoint_policy="none",
    )
    straight = command.json("create", config)
    killed = command.json("create", config, variables=IN_THE_SECOND_SAVE)
    assert (killed["state"], killed["trials"][0]["restarts"]) == ("COMPLETED", 2)
    assert killed["trials"][0]["batches"] == straight["trials"][0]["batches"] == 45
    one, other = (
        [(row["kind"], row["batches"], row["metrics"]) for row in command.json("metrics", f"{number}.1")]
        for number in (1, 2)
    )
    assert one == other
    assert "it goes on from batch 15" in command("logs", "2.1").stdout + command("describe", 2).stdout
