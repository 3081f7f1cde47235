"""Ranks train on shares of the same batches, and begin, stop and fail together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import mnist_trials as mt
from mnist_trials.events import DatasetChosen, GoOn, TrialHeld
from mnist_trials.records import Outcome
from mnist_trials.training.trial import Trial
from tests.training.distributed.crew import Crew
from tests.training.distributed.jobs import Told, failed, train, validated
from tests.training.distributed.trials import (
    BadBatches,
    Few,
    Manual,
    OftenNone,
    OtherData,
    OtherDataset,
    Rows,
    Scaled,
    StepsByItself,
    StoppedByOne,
    Streamed,
    TwoModels,
    WeightedLoss,
)
from tests.training.lab import same


def agree(ranks: list[Told]) -> None:
    for rank in ranks[1:]:
        assert rank.result == ranks[0].result
        assert same(rank.weights, ranks[0].weights)


@pytest.mark.parametrize(
    ("trial", "ranks", "hparams"),
    [
        pytest.param(Few, 4, {}, id="a last batch smaller than the number of ranks"),
        pytest.param(Rows, 2, {"aggregation_frequency": 3}, id="a group of batches that is cut short"),
        pytest.param(Few, 4, {"aggregation_frequency": 2, "max_gradient_norm": 0.05}, id="clipped by norm"),
        pytest.param(Few, 2, {"max_gradient_value": 0.01}, id="clipped by value"),
        pytest.param(WeightedLoss, 2, {}, id="losses with weights of their own"),
        pytest.param(WeightedLoss, 2, {"aggregation_frequency": 3}, id="and aggregated"),
        pytest.param(OftenNone, 4, {}, id="weights, of which a rank may have none"),
        pytest.param(OftenNone, 2, {"aggregation_frequency": 2}, id="none, and aggregated"),
        pytest.param(Manual, 2, {}, id="stepped by the trial"),
        pytest.param(Streamed, 2, {"global_batch_size": 16}, id="a stream"),
    ],
)
def test_two_epochs_give_the_numbers_of_one_slot(
    crew: Crew, tmp_path: Path, trial: type[Trial], ranks: int, hparams: dict[str, Any]
) -> None:
    arguments: dict[str, Any] = {"trial": trial, "hparams": hparams, "max_length": mt.Epoch(2)}
    single = crew.run(train, (1, 1), tmp_path / "single", **arguments)[0]
    together = crew.run(train, (ranks, 1), tmp_path, **arguments)
    agree(together)
    assert together[0].result.records == single.result.records
    assert together[0].reported[0] == pytest.approx(single.reported[0], abs=1e-5)
    assert together[0].result.metrics == pytest.approx(single.result.metrics, abs=1e-5)
    torch.testing.assert_close(together[0].weights, single.weights, rtol=0, atol=1e-5)


def test_of_several_models_the_rules_may_split_one(crew: Crew, tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"trial": TwoModels, "max_length": mt.Epoch(1)}
    single = crew.run(train, (1, 1), tmp_path / "single", **arguments)[0]
    together = crew.run(train, (1, 2), tmp_path, **arguments)
    agree(together)
    assert together[0].held < single.held
    torch.testing.assert_close(together[0].weights, single.weights, rtol=0, atol=1e-5)


def test_gradients_that_are_split_are_clipped_as_whole_ones(crew: Crew, tmp_path: Path) -> None:
    for hparams in ({"max_gradient_value": 0.01, "aggregation_frequency": 3}, {"max_gradient_norm": 0.01}):
        arguments: dict[str, Any] = {"hparams": hparams, "max_length": mt.Epoch(1)}
        single = crew.run(train, (1, 1), tmp_path / "single", **arguments)[0]
        for mesh, shard in (((1, 2), False), ((2, 1), True)):
            together = crew.run(train, mesh, tmp_path, shard=shard, **arguments)
            agree(together)
            torch.testing.assert_close(together[0].weights, single.weights, rtol=0, atol=1e-5)


def test_a_parameter_smaller_than_the_ranks_is_split_in_half_precision(crew: Crew, tmp_path: Path) -> None:
    arguments: dict[str, Any] = {
        "trial": Scaled,
        "options": {"precision": "fp16-mixed"},
        "hparams": {"max_gradient_norm": 0.1},
        "max_length": mt.Batch(7),
    }
    single = crew.run(train, (1, 1), tmp_path / "single", **arguments)[0]
    together = crew.run(train, (2, 1), tmp_path, shard=True, **arguments)
    agree(together)
    torch.testing.assert_close(together[0].weights, single.weights, rtol=0, atol=1e-3)


def test_evaluation_over_ranks_gives_what_one_slot_gives(crew: Crew, tmp_path: Path) -> None:
    (single,) = crew.run(validated, (1, 1), tmp_path)
    several = crew.run(validated, (2, 2), tmp_path)
    assert all(metrics == several[0] for metrics in several)
    assert several[0] == pytest.approx(single, abs=1e-6)
    assert set(single) == {"validation_loss", "accuracy", "hits"}


def test_a_request_that_rank_0_hears_stops_all_after_the_same_batch(crew: Crew, tmp_path: Path) -> None:
    ranks = crew.run(train, (2, 2), tmp_path, stop_at_poll=3, max_length=mt.Batch(100_000))
    agree(ranks)
    assert ranks[0].result.outcome is Outcome.PAUSED
    assert 3 <= ranks[0].result.batches <= 3 * 258
    assert ranks[0].result.checkpoint is not None


def test_a_held_trial_goes_on_by_the_word_that_rank_0_gets(crew: Crew, tmp_path: Path) -> None:
    ranks = crew.run(
        train, (2, 1), tmp_path, answers=[GoOn(9), GoOn(None)], options={"until": 4}, max_length=mt.Batch(12)
    )
    agree(ranks)
    assert ranks[0].result.batches == 12
    assert [event.batches for event in ranks[0].events if isinstance(event, TrialHeld)] == [4, 9]


def test_a_batch_that_is_bad_on_one_rank_is_left_out_by_all_or_ends_all(crew: Crew, tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"trial": BadBatches, "max_length": mt.Batch(8)}
    ranks = crew.run(train, (2, 1), tmp_path, options={"config": {"on_nan": "skip"}}, **arguments)
    agree(ranks)
    assert all(torch.isfinite(value).all() for value in ranks[0].weights.values())
    assert ranks[0].notices == ranks[1].notices
    assert "1 batches were left out" in ranks[0].notices[0]
    errors = crew.run(failed, (2, 1), tmp_path, **arguments)
    assert errors[0] == errors[1]
    assert errors[0].startswith("NonFiniteLoss: The loss became nan in epoch_idx 0, batch_idx 3")


def test_a_callback_of_one_rank_ends_training_on_all(crew: Crew, tmp_path: Path) -> None:
    ranks = crew.run(
        train, (2, 1), tmp_path, trial=StoppedByOne, max_length=mt.Batch(50), validation_period=mt.Batch(5)
    )
    agree(ranks)
    assert ranks[0].result.batches == 10
    assert ranks[0].result.outcome is Outcome.COMPLETED
    assert ranks[0].notices == ranks[1].notices == ["Training ends after 10 batches: tired: enough."]


def test_ranks_that_differ_in_their_data_are_told_apart_before_they_train(crew: Crew, tmp_path: Path) -> None:
    first, second = crew.run(failed, (2, 1), tmp_path, trial=OtherData, max_length=mt.Batch(1))
    assert first == second
    assert "differ in their training data. rank 0: 7 batches of 101 samples in all; rank 1: 6 batches of 93" in first
    first, second = crew.run(failed, (2, 1), tmp_path, trial=OtherDataset, max_length=mt.Batch(1))
    assert first == second
    assert "differ in the data set they train on. rank 0: mnist; rank 1: digits." in first


def test_an_optimizer_that_the_trial_steps_itself_is_an_error(crew: Crew, tmp_path: Path) -> None:
    for error in crew.run(failed, (2, 1), tmp_path, trial=StepsByItself, max_length=mt.Batch(1)):
        assert "SGD.step() was called by the trial itself" in error
        assert "self.context.step_optimizer(optimizer)" in error


def test_test_mode_trains_saves_and_reads_back_on_every_rank(crew: Crew, tmp_path: Path) -> None:
    ranks = crew.run(train, (2, 2), tmp_path, test_mode=True, options={"config": {"profiling": {"enabled": True}}})
    agree(ranks)
    assert ranks[0].result.batches == 1
    assert not any(isinstance(event, DatasetChosen) for rank in ranks for event in rank.events)
