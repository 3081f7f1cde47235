"""Short batches that are filled up: the metrics are those of the samples that are there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torchmetrics import MeanMetric
from typing_extensions import override

import mnist_trials as mt
from mnist_trials.training.data.filling import cut, fill, filled_rows
from mnist_trials.training.torch_models.padding import BySample
from tests.training.lab import Lab, Small, samples, unit

ROWS, SIZE = 8, 5


class Both(Small):
    """What its methods return is computed by `measure`."""

    @override
    def build_model(self) -> Any:
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))

    def measure(self, images: torch.Tensor, labels: torch.Tensor) -> Any:
        logits = self.model(images)
        hits = (logits.argmax(1) == labels).float().mean()
        return {"loss": cross_entropy(logits, labels), "accuracy": hits, "constant": 2}

    @override
    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        return self.measure(*batch)

    @override
    def evaluate_batch(self, batch: Any, batch_idx: int) -> Mapping[str, Any]:
        metrics: Mapping[str, Any] = self.measure(*batch)
        return metrics


class Bench:
    """A trial with its model, and who calls it with a batch of `SIZE` samples filled up to `ROWS`."""

    def __init__(self, lab: Lab, kind: type[Both]) -> None:
        context = lab.context()
        self.said: list[str] = []
        self.trial = kind(context)
        self.trial._model = context.execution.prepare(self.trial.build_model(), {})
        self.calls = BySample(self.trial, context.execution, self.said.append)
        images, labels = samples(SIZE)
        self.short = unit(images), labels
        self.batch = fill(self.short, ROWS)

    def train(self, batch: Any = None) -> dict[str, Any]:
        share = (self.batch if batch is None else batch, SIZE, SIZE)
        ((batch, _, _),) = self.calls.watched(iter([share]))
        return dict(self.calls.train_batch(batch, 0, 0))

    def expected(self) -> dict[str, Any]:
        return dict(self.trial.measure(*self.short))


def test_a_batch_is_filled_with_its_last_sample_and_one_without_rows_is_left_alone() -> None:
    batch = {"x": torch.arange(6).view(3, 2), "y": [torch.tensor([1, 2, 3])]}
    filled = fill(batch, 5)
    assert filled["x"].tolist() == [[0, 1], [2, 3], [4, 5], [4, 5], [4, 5]]
    assert filled["y"][0].tolist() == [1, 2, 3, 3, 3]
    assert cut(filled, 3)["y"][0].tolist() == [1, 2, 3]
    assert filled_rows(torch.tensor([7, 9]), 4).tolist() == [7, 9, 9, 9]
    for other in ((torch.zeros(3, 2), torch.zeros(())), (torch.zeros(3), "names"), (torch.zeros(3), torch.zeros(2))):
        assert fill(other, 5) is other
    assert fill(batch, 3) is batch


@pytest.mark.parametrize("training", [True, False])
def test_the_metrics_are_means_over_the_samples_that_are_there(lab: Lab, training: bool) -> None:
    bench = Bench(lab, Both)
    found = bench.train() if training else dict(bench.calls.evaluate_batch(bench.batch, SIZE, 0))
    for name, value in bench.expected().items():
        torch.testing.assert_close(torch.as_tensor(found[name]), torch.as_tensor(value))
    assert bench.said == []


def test_gradients_are_those_of_the_short_batch(lab: Lab) -> None:
    bench = Bench(lab, Both)
    parameters = list(bench.trial.model.parameters())
    expected = torch.autograd.grad(bench.expected()["loss"], parameters)
    found = torch.autograd.grad(bench.train()["loss"], parameters)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_a_batch_that_is_whole_is_handed_on_as_it_is(lab: Lab) -> None:
    bench = Bench(lab, Both)
    assert bench.train(bench.short)["loss"].item() == bench.expected()["loss"].item()
    assert dict(bench.calls.evaluate_batch(bench.short, SIZE, 0))["loss"].item() == bench.expected()["loss"].item()


def test_dropout_draws_for_every_sample(lab: Lab) -> None:
    class Drops(Both):
        @override
        def build_model(self) -> Any:
            return nn.Sequential(nn.Flatten(), nn.Dropout(0.5))

        @override
        def measure(self, images: torch.Tensor, labels: torch.Tensor) -> Any:
            return {"loss": self.model(images).mean()}

    bench = Bench(lab, Drops)
    same = torch.ones(1, 4, 4).expand(ROWS, 4, 4), torch.zeros(ROWS, dtype=torch.int64)
    torch.manual_seed(3)
    draws = {round(float(bench.train(same)["loss"]) * SIZE * 16) for _ in range(8)}
    assert bench.said == []
    assert len(draws) > 1
    assert any(draw % SIZE for draw in draws)  # with one draw for all samples they would be multiples


class Sums(Both):
    @override
    def measure(self, images: torch.Tensor, labels: torch.Tensor) -> Any:
        return {"loss": cross_entropy(self.model(images), labels, reduction="sum")}


class Normalizes(Both):
    @override
    def build_model(self) -> Any:
        return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16), nn.Linear(16, 3))


class Reads(Both):
    @override
    def measure(self, images: torch.Tensor, labels: torch.Tensor) -> Any:
        loss = cross_entropy(self.model(images), labels)
        return {"loss": loss, "read": loss.item()}


class Weighs(Both):
    @override
    def measure(self, images: torch.Tensor, labels: torch.Tensor) -> Any:
        return {"loss": cross_entropy(self.model(images), labels), "weighted": mt.weighted(1.0, 3)}


class Keeps(Both):
    last: Any = None

    @override
    def measure(self, images: torch.Tensor, labels: torch.Tensor) -> Any:
        self.last = loss = cross_entropy(self.model(images), labels)
        return {"loss": loss}


class Gathers(Both):
    def __init__(self, context: mt.TrialContext) -> None:
        super().__init__(context)
        self.mean = MeanMetric()

    @override
    def measure(self, images: torch.Tensor, labels: torch.Tensor) -> Any:
        loss = cross_entropy(self.model(images), labels)
        self.mean.update(loss)
        return {"loss": loss, "mean": self.mean}


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (Sums, "its metric 'loss' is no mean over samples"),
        (Normalizes, "more than 1 value per channel"),
        (Reads, "item"),
        (Weighs, "its metric 'weighted' is Weighted"),
        (Keeps, "it changes attributes of the trial"),
        (Gathers, "it updates torchmetrics objects"),
    ],
)
def test_what_cannot_be_had_by_sample_is_computed_of_the_samples_that_are_there_and_said_once(
    lab: Lab, kind: type[Both], why: str
) -> None:
    bench = Bench(lab, kind)
    before = {name: value.clone() for name, value in bench.trial.model.state_dict().items()}
    with torch.no_grad():
        found, again = bench.train()["loss"], bench.train()["loss"]
        bench.trial.model.load_state_dict(before)
        expected = bench.expected()["loss"]
    assert found.item() == again.item() == expected.item()
    (said,) = bench.said
    assert said.startswith("The last batch of a pass has 5 samples, the others 8. train_batch cannot be computed")
    assert why in said
    if kind is Gathers:
        assert float(bench.trial.mean.weight) == 3  # type: ignore[attr-defined] # what was tried out left no trace


def test_an_error_of_the_trial_is_raised_as_it_is(lab: Lab) -> None:
    class Fails(Both):
        @override
        def measure(self, images: torch.Tensor, labels: torch.Tensor) -> Any:
            raise ValueError("a mistake of mine")

    bench = Bench(lab, Fails)
    with pytest.raises(ValueError, match="a mistake of mine"):
        bench.train()
