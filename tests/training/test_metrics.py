"""Metrics are means over samples, and what cannot be one is named."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy
from torchmetrics import ConfusionMatrix
from torchmetrics.classification import MulticlassAccuracy

import mnist_trials as mt
from mnist_trials.errors import TrialError
from mnist_trials.events import MetricsReported, ValidationCompleted
from mnist_trials.plugin import ExecutionSettings, get_plugins
from mnist_trials.training.measures.metrics import Accumulator
from tests.training.lab import Lab, Small, samples, unit

BACKEND = get_plugins().find("backend", "cpu").factory({})
EXECUTION = BACKEND.open(
    ExecutionSettings(slots=BACKEND.slots(None)[:1], precision="fp32", compile=False, deterministic=False, seed=1)
)


def gathering(method: str) -> Accumulator:
    return Accumulator(method, EXECUTION)


VALUES = st.lists(st.tuples(st.floats(-100, 100, width=32), st.integers(1, 64)), min_size=1, max_size=30)


@given(VALUES, st.sets(st.integers(0, 29)))
def test_a_mean_is_weighted_by_samples_however_it_is_gathered(values: list[Any], folds: set[int]) -> None:
    accumulator = gathering("evaluate_batch")
    for number, (value, size) in enumerate(values):
        accumulator.add({"tensor": torch.tensor(value), "number": value, "row": torch.tensor([value])}, size)
        if number in folds:
            accumulator.fold()
    expected = sum(value * size for value, size in values) / sum(size for _, size in values)
    result = accumulator.finish()
    assert all(math.isclose(result[name], expected, rel_tol=1e-9, abs_tol=1e-9) for name in result)
    assert len(set(result.values())) == 1


@given(VALUES, st.integers(0, 29))
def test_a_period_that_is_saved_and_restored_ends_with_the_same_bits(values: list[Any], at: int) -> None:
    straight, first = gathering("train_batch"), gathering("train_batch")
    for number, (value, size) in enumerate(values):
        if number == at:
            second = gathering("train_batch")
            second.load_state_dict(first.state_dict())
            first = second
        straight.add({"loss": torch.tensor(value)}, size)
        first.add({"loss": torch.tensor(value)}, size)
    assert straight.finish() == first.finish()


def test_the_last_short_batch_weighs_what_it_holds(lab: Lab) -> None:
    run = lab.fit(Small)
    images, labels = samples(30, seed=1)
    logits = run.trial.model.eval()(unit(images))
    assert run.result.metrics["accuracy"] == pytest.approx((logits.argmax(1) == labels).float().mean().item())
    assert run.result.metrics["validation_loss"] == pytest.approx(cross_entropy(logits, labels).item())


def test_weighted_values_count_as_much_as_they_say() -> None:
    accumulator = gathering("evaluate_batch")
    accumulator.add({"x": mt.weighted(1.0, 3)}, 8)
    accumulator.add({"x": mt.weighted(torch.tensor(5.0), 1)}, 8)
    assert accumulator.finish() == {"x": 2.0}


def test_a_value_of_no_weight_has_no_say() -> None:
    accumulator = gathering("evaluate_batch")
    accumulator.add({"x": mt.weighted(math.nan, 0), "y": mt.weighted(1.0, 0)}, 8)
    accumulator.add({"x": 2.0}, 8)
    result = accumulator.finish()
    assert result["x"] == 2.0
    assert math.isnan(result["y"])


@pytest.mark.parametrize("weight", [-1, math.nan, math.inf])
def test_a_weight_that_is_none_is_refused(weight: float) -> None:
    with pytest.raises(TrialError, match="weight of at least 0"):
        mt.weighted(1.0, weight)


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ("high", "'high'"),
        (None, "None"),
        (torch.zeros(2), r"a tensor of shape \(2,\)"),
        (np.zeros(2), "array"),
        ([1.0], r"\[1.0\]"),
        (mt.weighted(torch.zeros(3), 1), r"a tensor of shape \(3,\)"),
    ],
)
def test_what_is_no_metric_is_refused_by_name(value: Any, named: str) -> None:
    with pytest.raises(TrialError, match=rf"(?s)evaluate_batch returned .*{named}.* as the metric 'score'"):
        gathering("evaluate_batch").add({"score": value}, 1)


@pytest.mark.parametrize("value", [1, True, np.float32(1), np.int64(1), torch.tensor([[1]]), torch.tensor(True)])
def test_numbers_of_many_kinds_are_metrics(value: Any) -> None:
    accumulator = gathering("evaluate_batch")
    accumulator.add({"x": value}, 1)
    assert accumulator.finish() == {"x": 1.0}


def test_numbers_and_tensors_may_take_turns() -> None:
    accumulator = gathering("evaluate_batch")
    for value in (1, torch.tensor(2.0), torch.tensor(3.0, dtype=torch.bfloat16), 4.0):
        accumulator.add({"x": value}, 1)
    assert accumulator.finish() == {"x": 2.5}


def test_torchmetrics_objects_are_computed_at_the_end_of_the_period_and_reset(lab: Lab) -> None:
    class WithObject(Small):
        def __init__(self, context: Any) -> None:
            super().__init__(context)
            self.hits = MulticlassAccuracy(3, average="micro")

        def evaluate_batch(self, batch: Any, batch_idx: int) -> Any:
            metrics = super().evaluate_batch(batch, batch_idx)
            self.hits.update(self.model(batch[0]), batch[1])
            return {**metrics, "object": self.hits}

    run = lab.fit(WithObject, validation_period=mt.Batch(2))
    validations = [event.metrics for event in run.channel.of(ValidationCompleted)]
    assert len(validations) == 5
    assert all(m["object"] == pytest.approx(m["accuracy"]) for m in validations)


def test_a_torchmetrics_object_with_many_numbers_is_refused_by_name(lab: Lab) -> None:
    class WithMatrix(Small):
        def __init__(self, context: Any) -> None:
            super().__init__(context)
            self.matrix = ConfusionMatrix(task="multiclass", num_classes=3)

        def evaluate_batch(self, batch: Any, batch_idx: int) -> Any:
            self.matrix.update(self.model(batch[0]), batch[1])
            return {"validation_loss": 0.0, "confusion": self.matrix}

    with pytest.raises(TrialError, match=r"'confusion'.*computes no single number"):
        lab.fit(WithMatrix)


def test_a_new_torchmetrics_object_per_batch_is_refused() -> None:
    accumulator = gathering("evaluate_batch")
    accumulator.add({"x": MulticlassAccuracy(3)}, 1)
    with pytest.raises(TrialError, match="a new torchmetrics object for 'x'"):
        accumulator.add({"x": MulticlassAccuracy(3)}, 1)


def test_training_metrics_are_those_of_their_period(lab: Lab) -> None:
    class Numbered(Small):
        def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
            return {**super().train_batch(batch, epoch_idx, batch_idx), "number": float(batch_idx)}

    run = lab.fit(Numbered, reporting_period=mt.Batch(4))
    assert [e.metrics["number"] for e in run.channel.of(MetricsReported)] == [1.5, 5.5, 8.5]


def test_a_metric_that_is_not_finite_is_told_as_none(lab: Lab) -> None:
    class Broken(Small):
        def evaluate_batch(self, batch: Any, batch_idx: int) -> Any:
            return {"validation_loss": math.nan}

    run = lab.fit(Broken)
    assert run.channel.of(ValidationCompleted)[0].metrics == {"validation_loss": None}
    assert run.result.best_metric is None
    assert run.result.checkpoint is not None
