"""`limit_batches`: the first batches of each pass only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import mnist_trials as mt
from mnist_trials.errors import TrialError
from mnist_trials.events import ProgressReported, ValidationCompleted
from mnist_trials.testing.channel import RecordingChannel
from mnist_trials.training.data.feeds import Feed, Share
from mnist_trials.training.data.limits import LimitedFeed
from mnist_trials.training.evaluation import evaluate
from tests.training.lab import SEARCHED, Lab, Run, Small, same, samples, unit

BOTH = {"training": 4, "validation": 2}


class Streamed(IterableDataset[Any]):
    def __iter__(self) -> Any:
        images, labels = samples()
        yield from zip(unit(images), labels, strict=True)


class Counted(Small):
    """Remembers which batches it was given."""

    def __init__(self, context: Any) -> None:
        super().__init__(context)
        self.trained: list[tuple[int, float]] = []
        self.evaluated: list[int] = []

    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        self.trained.append((epoch_idx, float(batch[0].sum())))
        return super().train_batch(batch, epoch_idx, batch_idx)

    def evaluate_batch(self, batch: Any, batch_idx: int) -> Any:
        self.evaluated.append(batch_idx)
        return super().evaluate_batch(batch, batch_idx)


class WithStream(Counted):
    def build_data(self) -> Any:
        return DataLoader(Streamed(), batch_size=8), super().build_data()[1]


class WithWorkers(Counted):
    def build_data(self) -> Any:
        images, labels = samples()
        train = TensorDataset(unit(images), labels)
        return DataLoader(train, batch_size=8, shuffle=True, num_workers=2), super().build_data()[1]


def fit(
    lab: Lab, trial: type[mt.Trial], limits: dict[str, int | None] | None, *, stop: int = 0, **arguments: Any
) -> Run:
    channel = RecordingChannel()
    if stop:
        channel.stop_at_poll(stop)
    checkpoints = arguments.pop("checkpoints", ())
    config = {**SEARCHED, "limit_batches": limits}
    return lab.fit(trial, lab.context(config=config, channel=channel, checkpoints=checkpoints), **arguments)


@pytest.mark.parametrize(
    ("length", "batches", "epochs", "records"),
    [
        (mt.Batch(6), 6, 1, 48),
        (mt.Epoch(3), 12, 3, 96),
        (mt.Record(40), 5, 1, 40),
        (mt.Record(41), 6, 1, 48),
    ],
)
@pytest.mark.parametrize("trial", [Counted, WithStream])
def test_an_epoch_is_as_long_as_the_limit_in_any_unit(
    lab: Lab, trial: type[mt.Trial], length: Any, batches: int, epochs: int, records: int
) -> None:
    result = fit(lab, trial, BOTH, max_length=length).result
    assert (result.batches, result.epochs, result.records) == (batches, epochs, records)


def test_the_length_is_known_beforehand_and_progress_counts_short_epochs(lab: Lab) -> None:
    run = fit(lab, Counted, BOTH, max_length=mt.Epoch(2), validation_period=mt.Batch(2))
    assert {event.total_batches for event in run.channel.of(ProgressReported)} == {8}
    assert [event.epochs for event in run.channel.of(ValidationCompleted)] == [0.5, 1.0, 1.5, 2.0]


def test_every_pass_begins_with_the_batches_that_it_begins_with_without_a_limit(lab: Lab) -> None:
    def first_of_each_epoch(run: Run) -> list[list[float]]:
        return [[total for epoch, total in run.trial.trained if epoch == index][:4] for index in range(2)]

    limited = first_of_each_epoch(fit(lab, Counted, BOTH, max_length=mt.Epoch(2)))
    whole = first_of_each_epoch(fit(lab, Counted, None, max_length=mt.Epoch(2)))
    assert limited == whole
    assert limited[0] != limited[1]


@pytest.mark.parametrize(
    ("limits", "trained", "evaluated"),
    [
        ({"training": 3, "validation": None}, 3, 4),
        ({"training": None, "validation": 1}, 13, 1),
        ({"training": 100, "validation": 100}, 13, 4),
    ],
)
def test_each_limit_is_for_one_of_the_data_sets(
    lab: Lab, limits: dict[str, int | None], trained: int, evaluated: int
) -> None:
    run = fit(lab, Counted, limits, max_length=mt.Epoch(1))
    assert (run.result.batches, len(run.trial.evaluated)) == (trained, evaluated)


def test_an_evaluation_takes_the_batches_that_validations_took(lab: Lab) -> None:
    run = fit(lab, Counted, BOTH, max_length=mt.Epoch(1))
    assert evaluate(run.trial, run.context) == run.result.metrics


@pytest.mark.parametrize("stop", range(1, 10))
@pytest.mark.parametrize("trial", [Counted, WithStream])
def test_a_resumed_training_is_the_undisturbed_one(lab: Lab, trial: type[mt.Trial], stop: int) -> None:
    straight = fit(lab, trial, BOTH)
    resumed(lab, trial, stop, straight)


def test_a_loader_with_processes_is_let_go_of_at_the_limit_and_resumed_in_it(lab: Lab) -> None:
    resumed(lab, WithWorkers, 6, fit(lab, WithWorkers, BOTH))


def resumed(lab: Lab, trial: type[mt.Trial], stop: int, straight: Run) -> None:
    first = fit(lab, trial, BOTH, stop=stop)
    assert first.result.batches == stop
    second = fit(lab, trial, BOTH, checkpoints=[str(first.result.checkpoint)])
    assert first.trial.trained + second.trial.trained == straight.trial.trained
    assert same(second.weights, straight.weights)


def test_a_checkpoint_inside_a_short_epoch_does_not_go_on_in_a_long_one(lab: Lab) -> None:
    first = fit(lab, Counted, BOTH, stop=2)
    with pytest.raises(TrialError, match="inside an epoch of 4 batches, but the training data now gives 13"):
        fit(lab, Counted, None, checkpoints=[str(first.result.checkpoint)])


def test_the_iterator_below_is_closed_as_soon_as_the_limit_is_left() -> None:
    closed: list[int] = []

    class Watched(Feed):
        length = None
        largest_batch = 1
        samples = None

        def open(self, pass_index: int, skip: int) -> Iterator[Share]:
            try:
                for number in range(skip, 10):
                    yield number, 1, 1
            finally:
                closed.append(pass_index)

    feed = LimitedFeed(Watched(), 3)
    assert [batch for batch, _, _ in feed.open(0, 1)] == [1, 2]
    assert closed == [0]
    batches: Any = feed.open(1, 0)
    next(batches)
    batches.close()
    assert closed == [0, 1]
