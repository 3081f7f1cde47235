"""Trials with something to get wrong where several ranks train them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, IterableDataset, TensorDataset
from torchmetrics.classification import MulticlassAccuracy
from typing_extensions import override

import mnist_trials as mt
from tests.training.lab import CLASSES, samples, unit

RULES = {  # row, column, row
    r"1\.weight": (None, "tensor"),
    r"3\.weight": ("tensor", None),
    r"5\.weight": (None, "tensor"),
}


class Rows(mt.Trial):
    """A stack like that of MNISTLinear. 101 samples in global batches of 16: the last has 5.

    Tells a plain mean, a weighted mean and a torchmetrics object, in training and in validation.
    """

    samples = 101
    validation = 31
    dropout = 0.0

    @override
    def __init__(self, context: mt.TrialContext) -> None:
        super().__init__(context)
        self.train_hits = MulticlassAccuracy(CLASSES, average="micro")
        self.hits = MulticlassAccuracy(CLASSES, average="macro")

    @override
    def build_model(self) -> Any:
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(16, 12, bias=False),
            nn.ReLU(),
            nn.Linear(12, 8),
            nn.ReLU(),
            nn.Linear(8, CLASSES),
            nn.Dropout(self.dropout),
        )

    @override
    def sharding_rules(self) -> Any:
        return RULES

    @override
    def build_data(self) -> Any:
        train, validation = samples(self.samples), samples(self.validation, seed=1)
        return mt.TensorData(*train, unit), mt.TensorData(*validation, unit)

    @override
    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        images, labels = batch
        logits = self.model(images)
        self.train_hits.update(logits, labels)
        ones = (labels == 1).sum()
        return {
            "loss": cross_entropy(logits, labels),
            "hits": self.train_hits,
            "confidence of ones": mt.weighted(logits.softmax(1)[labels == 1].sum() / ones.clamp(min=1), ones.item()),
        }

    @override
    def evaluate_batch(self, batch: Any, batch_idx: int) -> Mapping[str, Any]:
        images, labels = batch
        logits = self.model(images)
        self.hits.update(logits, labels)
        return {
            "validation_loss": cross_entropy(logits, labels),
            "accuracy": (logits.argmax(1) == labels).float().mean(),
            "hits": self.hits,
        }


class DroppingRows(Rows):
    """With dropout, so that random state matters."""

    dropout = 0.3


class LoadedRows(DroppingRows):
    """The same from a DataLoader."""

    @override
    def build_data(self) -> Any:
        train, validation = samples(self.samples), samples(self.validation, seed=1)
        pairs = [TensorDataset(unit(images), labels) for images, labels in (train, validation)]
        return DataLoader(pairs[0], batch_size=8, shuffle=True), DataLoader(pairs[1], batch_size=8)


class Counts(mt.Callback):
    """Ends training where the checkpoint that it is told of is the `enough`-th, on rank 1 alone."""

    def __init__(self, enough: int) -> None:
        self.enough = enough
        self.told: list[str] = []

    @override
    def on_checkpoint_saved(self, uuid: str) -> None:
        self.told.append(uuid)
        if len(self.told) == self.enough:
            self.stop_training("saved often enough")


class CountedSaves(Rows):
    """Rank 1 counts, and rank 0 has no callback."""

    @override
    def build_callbacks(self) -> Any:
        return {"counts": Counts(3)} if self.context.rank == 1 else {}


class Unkept(Rows):
    """Has a state that no checkpoint can hold."""

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"thing": {1, 2}}


class Few(Rows):
    """Batches of 16 of 33 samples: the last has a single one."""

    samples = 33
    validation = 5


class Counted(IterableDataset[Any]):
    """Samples from a stream of unknown length."""

    def __init__(self, count: int, seed: int) -> None:
        self.images, self.labels = samples(count, seed)

    @override
    def __iter__(self) -> Any:
        yield from zip(unit(self.images), self.labels, strict=True)


class Streamed(Rows):
    """Rounds of batches of 8: 101 samples are 13 batches, the last with 5."""

    @override
    def build_data(self) -> Any:
        size = self.context.per_slot_batch_size
        return DataLoader(Counted(101, 0), size), DataLoader(Counted(31, 1), size)


class WeightedLoss(Rows):
    """The loss is a mean over the samples of one class, of which each rank has another number."""

    @override
    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        images, labels = batch
        chosen = labels == 1
        loss = cross_entropy(self.model(images), labels, reduction="none")[chosen].sum()
        return mt.weighted(loss / max(1, int(chosen.sum())), int(chosen.sum()))


class OftenNone(Rows):
    """The loss is the mean over the samples of one class, and no number where a rank has none of them.

    Batches of 16 of 33 samples: the last has a single one, and other ranks than the first have only a stand-in.
    """

    samples = 33

    @override
    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        images, labels = batch
        chosen = labels == 1
        losses = cross_entropy(self.model(images), labels, reduction="none")
        return mt.weighted((losses * chosen).sum() / chosen.sum(), int(chosen.sum()))


class Scaled(Rows):
    """With a parameter of one element, of which all ranks but the first hold nothing where it is split."""

    @override
    def build_model(self) -> Any:
        return nn.Sequential(nn.Flatten(), nn.Linear(16, CLASSES), nn.PReLU())


class TwoModels(Rows):
    """Two models by name, each with an optimizer that the trial steps; rules split one of the models."""

    @override
    def build_model(self) -> Any:
        body = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 8))
        return {"body": body, "head": nn.Linear(8, CLASSES)}

    @override
    def sharding_rules(self) -> Any:
        return {r"body\.1\.weight": ("tensor", None), r"body\.3\.weight": (None, "tensor")}

    @override
    def build_optimizer(self, model: Any) -> Any:
        return {
            "body": torch.optim.AdamW(model["body"].parameters(), 0.01),
            "head": torch.optim.SGD(model["head"].parameters(), 0.1),
        }

    def loss(self, batch: Any) -> torch.Tensor:
        return cross_entropy(self.model["head"](self.model["body"](batch[0])), batch[1])

    @override
    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        loss = self.loss(batch)
        self.context.backward(loss)
        self.context.step_optimizer(self.optimizer["head"])
        self.context.step_optimizer(self.optimizer["body"], clip_grads=lambda p: nn.utils.clip_grad_value_(p, 0.01))
        return {"loss": loss}

    @override
    def evaluate_batch(self, batch: Any, batch_idx: int) -> Mapping[str, Any]:
        return {"validation_loss": self.loss(batch)}


class Manual(Rows):
    """Steps itself, and clips."""

    @override
    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        images, labels = batch
        loss = cross_entropy(self.model(images), labels)
        self.context.backward(loss)
        self.context.step_optimizer(self.optimizer, clip_grads=lambda p: nn.utils.clip_grad_value_(p, 0.01))
        return {"loss": loss}


class StepsByItself(Rows):
    """Forgets that gradients are to be averaged."""

    @override
    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        loss = cross_entropy(self.model(batch[0]), batch[1])
        self.context.backward(loss)
        self.optimizer.step()
        return {"loss": loss}


class BadBatches(Rows):
    """The loss of rank 1 is not a number in batch 3."""

    @override
    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        loss = cross_entropy(self.model(batch[0]), batch[1])
        return loss * float("nan") if batch_idx == 3 and self.context.rank == 1 else loss


class StoppedByOne(Rows):
    """A callback of rank 1 alone ends training at the second validation."""

    @override
    def build_callbacks(self) -> Any:
        return {"tired": Tired()} if self.context.rank == 1 else {}


class Tired(mt.Callback):
    def __init__(self) -> None:
        self.validations = 0

    @override
    def on_validation_end(self, metrics: Mapping[str, float]) -> None:
        self.validations += 1
        if self.validations == 2:
            self.stop_training("enough")


class OtherData(Rows):
    """Rank 1 has less."""

    @override
    def build_data(self) -> Any:
        self.samples -= 8 * self.context.rank
        return super().build_data()


class OtherDataset(Rows):
    """Rank 1 fell back to another data set."""

    @override
    def build_data(self) -> Any:
        self.context.dataset_chosen("digits" if self.context.rank else "mnist", "found")
        return super().build_data()
