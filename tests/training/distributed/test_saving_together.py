"""Several ranks save at the same batch, hear at the same batch that it is done, and go on from it to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import mnist_trials as mt
from mnist_trials.events import CheckpointSaved
from mnist_trials.training.trial import Trial
from tests.training.distributed.crew import Crew
from tests.training.distributed.jobs import Told, failed, fails_to_save, train
from tests.training.distributed.trials import CountedSaves, DroppingRows, LoadedRows, Unkept
from tests.training.lab import same

END = 17  # in the third epoch of 7 batches
STOPS = (1, 7, 9, 12)  # the first batch, the end of an epoch, in a group of 3, in a reporting period of 4
TWO = (2, 1)


def saved(ranks: list[Told]) -> dict[int, str]:
    events = [event for event in ranks[0].events if isinstance(event, CheckpointSaved)]
    assert not any(isinstance(event, CheckpointSaved) for event in ranks[1].events)
    return {event.checkpoint.batches: event.checkpoint.uuid for event in events}


@pytest.mark.parametrize("trial", [DroppingRows, LoadedRows])
@pytest.mark.parametrize("group", [1, 3])
def test_two_ranks_go_on_to_the_bit_from_wherever_they_saved(
    crew: Crew, tmp_path: Path, trial: type[Trial], group: int
) -> None:
    arguments: dict[str, Any] = {
        "trial": trial,
        "hparams": {"aggregation_frequency": group},
        "max_length": mt.Batch(END),
        "checkpoint_period": mt.Batch(1),
        "checkpoint_policy": "none",
        "reporting_period": mt.Batch(4),
        "validation_period": mt.Batch(6),
    }
    straight = crew.run(train, TWO, tmp_path, **arguments)
    checkpoints = saved(straight)
    assert list(checkpoints) == list(range(1, END + 1))
    for stop in STOPS:
        resumed = crew.run(train, TWO, tmp_path, options={"checkpoints": (checkpoints[stop],)}, **arguments)
        for one, other in zip(straight, resumed, strict=True):
            assert same(one.weights, other.weights)
            assert same(one.state, other.state)
            assert other.result.batches == END
            assert other.result.metrics == one.result.metrics
        assert list(saved(resumed)) == list(range(stop + 1, END + 1))
        assert resumed[0].reported == straight[0].reported[stop // 4 :]


def test_a_callback_of_one_rank_is_told_of_checkpoints_and_may_end_training(crew: Crew, tmp_path: Path) -> None:
    ranks = crew.run(
        train, TWO, tmp_path, trial=CountedSaves, max_length=mt.Batch(100_000), checkpoint_period=mt.Batch(5)
    )
    assert ranks[0].result == ranks[1].result
    assert list(saved(ranks))[:3] == [5, 10, 15]
    assert 15 < ranks[0].result.batches <= 20  # after the third, and no later than where the fourth is due
    assert ranks[0].result.checkpoint == list(saved(ranks).values())[-1]


def test_a_save_that_fails_is_rank_0s_to_tell_and_its_last_error_ends_all_alike(crew: Crew, tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"max_length": mt.Batch(40), "checkpoint_period": mt.Batch(2)}
    first, second = crew.run(fails_to_save, TWO, tmp_path, times=2, **arguments)
    assert (first[0], second[0]) == ("40", "40")
    assert [text.split(";")[0] for text in first[1]] == [
        f"Saving after 2 batches has failed (try {number} of at most 3)" for number in (1, 2)
    ]
    assert second[1] == []
    first, second = crew.run(fails_to_save, TWO, tmp_path, times=100, **arguments)
    assert (first[0], second[0]) == ("the dog ate it", "the dog ate it")


def test_a_state_that_cannot_be_kept_ends_all_ranks_alike(crew: Crew, tmp_path: Path) -> None:
    first, second = crew.run(failed, TWO, tmp_path, trial=Unkept, max_length=mt.Batch(2))
    assert first == second
    assert first.startswith("CheckpointError: trial.thing cannot be kept in a checkpoint")
