"""Lengths and periods in batches, epochs and records, on real trainings."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

import mnist_trials as mt
from mnist_trials.errors import TrialError
from mnist_trials.events import (
    CheckpointSaved,
    MetricsReported,
    Notice,
    ProgressReported,
    TrialStarted,
    ValidationCompleted,
)
from mnist_trials.records import Outcome
from mnist_trials.testing.channel import RecordingChannel
from tests.clocks import HandClock
from tests.training.lab import Lab, Small, samples, unit


def at(events: list[Any]) -> list[int]:
    return [event.batches for event in events]


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Any:
        images, labels = samples()
        while True:
            yield from zip(unit(images), labels, strict=True)


class Streamed(IterableDataset[Any]):
    def __iter__(self) -> Any:
        images, labels = samples()
        yield from zip(unit(images), labels, strict=True)


class WithStream(Small):
    data: type[IterableDataset[Any]] = Streamed

    def build_data(self) -> Any:
        return DataLoader(self.data(), batch_size=8), mt.TensorData(*samples(30), unit)


class WithEndlessStream(WithStream):
    data = Endless


@pytest.mark.parametrize(
    ("length", "batches", "epochs", "records"),
    [
        (mt.Batch(5), 5, 0, 40),
        (mt.Epoch(2), 26, 2, 200),
        (mt.Record(100), 13, 1, 100),
        (mt.Record(101), 14, 1, 108),
        (mt.Record(8), 1, 0, 8),
    ],
)
@pytest.mark.parametrize("trial", [Small, WithStream])
def test_training_is_as_long_as_asked_in_any_unit(
    lab: Lab, trial: type[mt.Trial], length: Any, batches: int, epochs: int, records: int
) -> None:
    result = lab.fit(trial, max_length=length).result
    assert (result.batches, result.epochs, result.records) == (batches, epochs, records)
    assert result.outcome is Outcome.COMPLETED


@pytest.mark.parametrize("trial", [Small, WithStream])
def test_validations_come_every_epoch_also_where_its_length_is_not_known(lab: Lab, trial: type[mt.Trial]) -> None:
    run = lab.fit(trial, max_length=mt.Epoch(3), validation_period=mt.Epoch(1))
    assert at(run.channel.of(ValidationCompleted)) == [13, 26, 39]
    assert [e.epochs for e in run.channel.of(ValidationCompleted)] == [1.0, 2.0, 3.0]


def test_periods_may_be_explicit_points_in_mixed_units(lab: Lab) -> None:
    points = [mt.Batch(2), mt.Epoch(1), mt.Record(30), mt.Batch(500)]
    run = lab.fit(Small, max_length=mt.Batch(20), validation_period=points, checkpoint_period=[mt.Batch(5)])
    assert at(run.channel.of(ValidationCompleted)) == [2, 4, 13, 20]
    run = lab.fit(Small, max_length=mt.Batch(20), checkpoint_period=[mt.Batch(5)], checkpoint_policy="none")
    assert [e.checkpoint.batches for e in run.channel.of(CheckpointSaved)] == [5, 20]


def test_an_epoch_may_be_a_number_of_records(lab: Lab) -> None:
    config = {"searcher": {"metric": "validation_loss"}, "records_per_epoch": 40}
    for trial in (Small, WithStream, WithEndlessStream):
        epochs: list[int] = []

        class Counting(trial):  # type: ignore[misc,valid-type]
            def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
                epochs.append(epoch_idx)  # noqa: B023
                return super().train_batch(batch, epoch_idx, batch_idx)

        run = lab.fit(Counting, lab.context(config=config), max_length=mt.Epoch(3), validation_period=mt.Epoch(1))
        assert epochs == [0] * 5 + [1] * 5 + [2] * 5
        assert at(run.channel.of(ValidationCompleted)) == [5, 10, 15]


def test_every_sample_is_seen_once_per_epoch_in_an_order_of_its_own(lab: Lab) -> None:
    orders: dict[int, list[int]] = {}

    class Seen(Small):
        def build_data(self) -> Any:
            images = torch.arange(100)[:, None, None].expand(100, 4, 4)
            data = mt.TensorData(images, torch.arange(100) % 3, lambda x: x / 100)
            return data, data

        def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
            orders.setdefault(epoch_idx, []).extend((batch[0][:, 0, 0] * 100).round().int().tolist())
            return super().train_batch(batch, epoch_idx, batch_idx)

    lab.fit(Seen, max_length=mt.Epoch(2))
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(100))
    assert orders[0] != orders[1]
    first = dict(orders)
    orders.clear()
    lab.fit(Seen, max_length=mt.Epoch(2))
    assert orders == first
    orders.clear()
    lab.fit(Seen, lab.context(seed=8), max_length=mt.Epoch(2))
    assert orders != first


def test_an_experiment_says_what_fit_was_not_told(lab: Lab) -> None:
    config = {
        "searcher": {"metric": "validation_loss", "max_length": {"batches": 12}},
        "min_validation_period": [{"batches": 3}, {"batches": 7}],
        "min_checkpoint_period": {"batches": 5},
        "scheduling_unit": 4,
        "checkpoint_policy": "none",
        "perform_initial_validation": True,
    }
    context = lab.context(config=config)
    mt.Trainer(Small(context), context).fit()
    channel = context.channel
    assert isinstance(channel, RecordingChannel)
    assert at(channel.of(ValidationCompleted)) == [0, 3, 7, 12]
    assert at(channel.of(MetricsReported)) == [4, 8, 12]
    assert [e.checkpoint.batches for e in channel.of(CheckpointSaved)] == [5, 10, 12]


def test_a_script_must_say_how_long_to_train(lab: Lab) -> None:
    context = lab.context(config={"searcher": {"metric": "validation_loss"}})
    with pytest.raises(TrialError, match=r"max_length such as Batch\(1000\)"):
        mt.Trainer(Small(context), context).fit()


@pytest.mark.parametrize("name", ["validation_period", "checkpoint_period", "reporting_period"])
@pytest.mark.parametrize("value", [100, [100], [], "1 epoch"])
def test_a_period_that_is_none_is_refused(lab: Lab, name: str, value: Any) -> None:
    with pytest.raises(TrialError, match=rf"{name} must be a period such as Batch\(100\)"):
        lab.fit(Small, **{name: value})


def test_an_unknown_checkpoint_policy_is_refused(lab: Lab) -> None:
    with pytest.raises(TrialError, match="checkpoint_policy must be one of best, all, none, not 'some'"):
        lab.fit(Small, checkpoint_policy="some")


def test_a_command_that_runs_once_on_several_slots_is_told_how_to_use_them_all(lab: Lab) -> None:
    run = lab.fit(Small, lab.context(slots=2), max_length=mt.Batch(1))
    (notice,) = run.channel.of(Notice)
    assert "has 2 slots, but its command was started once, so only one process trains" in notice.message
    assert "python3 -m mnist_trials.launch.torch_distributed" in notice.message


def test_the_events_of_a_short_training(lab: Lab) -> None:
    run = lab.fit(Small, max_length=mt.Batch(3))
    kinds = [type(e) for e in run.channel.events if not isinstance(e, ProgressReported)]
    assert kinds == [TrialStarted, MetricsReported, ValidationCompleted, CheckpointSaved]
    assert run.channel.of(CheckpointSaved)[0].checkpoint.metrics == run.channel.of(ValidationCompleted)[0].metrics


def test_test_mode_trains_one_batch_validates_one_and_restores_its_checkpoint(lab: Lab) -> None:
    calls: list[str] = []

    class Counted(Small):
        def evaluate_batch(self, batch: Any, batch_idx: int) -> Any:
            calls.append("evaluate")
            return super().evaluate_batch(batch, batch_idx)

        def load_state_dict(self, state: Any) -> None:
            calls.append("restored")

    run = lab.fit(Counted, lab.context(test_mode=True), max_length=mt.Epoch(50), validation_period=mt.Batch(1))
    assert run.result.batches == 1
    assert calls == ["evaluate", "restored"]
    assert len(run.channel.of(CheckpointSaved)) == 1


def test_test_mode_takes_a_buffer_of_nan_for_what_was_saved(lab: Lab) -> None:
    class Unset(Small):
        def build_model(self) -> Any:
            model = super().build_model()
            model.register_buffer("unset", torch.tensor([float("nan"), 1.0]))
            return model

    assert lab.fit(Unset, lab.context(test_mode=True)).result.batches == 1


def test_profiling_reports_speed_and_waiting_for_data(lab: Lab) -> None:
    run = lab.fit(Small, profiling_enabled=True)
    metrics = run.channel.of(MetricsReported)[0].metrics
    waits = {"profiling_data_seconds", "profiling_snapshot_seconds", "profiling_save_wait_seconds"}
    assert set(metrics) == {"loss", "profiling_batches_per_second", *waits}
    assert metrics["profiling_data_seconds"] > 0  # type: ignore[operator]


def test_progress_is_told_at_most_a_few_times_a_second(lab: Lab) -> None:
    clock = HandClock()

    class Timed(Small):
        def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
            clock.now += 0.1
            return super().train_batch(batch, epoch_idx, batch_idx)

    context = lab.context()
    mt.Trainer(Timed(context), context, clock=clock).fit(max_length=mt.Batch(20))
    channel = context.channel
    assert isinstance(channel, RecordingChannel)
    progress = channel.of(ProgressReported)
    assert at(progress) == [1, 4, 7, 10, 13, 16, 19]
    assert {e.total_batches for e in progress} == {20}


def test_an_error_is_preceded_by_where_training_was(lab: Lab) -> None:
    class Failing(Small):
        def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
            if batch_idx == 7:
                raise ZeroDivisionError("my own")
            return super().train_batch(batch, epoch_idx, batch_idx)

    context = lab.context()
    trainer = mt.Trainer(Failing(context), context)
    with pytest.raises(ZeroDivisionError, match="my own"):
        trainer.fit(max_length=mt.Batch(20))
    assert trainer.batches == 7
    assert isinstance(context.channel, RecordingChannel)
    assert context.channel.of(ProgressReported)[-1].batches == 7
