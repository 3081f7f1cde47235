"""Trials with all the state that a checkpoint must keep, and what their trainings reported."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset, IterableDataset, WeightedRandomSampler
from torchmetrics.classification import MulticlassAccuracy

import mnist_trials as mt
from mnist_trials.events import MetricsReported, ValidationCompleted
from tests.training.lab import Run, Small, samples, unit


class Noisy(Dataset[Any]):
    """Random transforms from all three sources of randomness."""

    def __init__(self) -> None:
        self.images, self.labels = samples()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        noise = random.random() + float(np.random.rand()) + float(torch.rand(()))
        return unit(self.images[index]) + 0.1 * noise, self.labels[index]


class Counting(IterableDataset[Any]):
    """Of a length that shows only at its end."""

    def __iter__(self) -> Any:
        images, labels = samples()
        yield from zip(unit(images), labels, strict=True)


class Adam(Small):
    """Momentum, schedules, a torchmetrics object, a callback and state of its own: all must survive."""

    def __init__(self, context: mt.TrialContext) -> None:
        super().__init__(context)
        self.hits = MulticlassAccuracy(3, average="micro")
        self.seen = 0

    def build_optimizer(self, model: Any) -> Any:
        return torch.optim.AdamW(model.parameters(), lr=0.01)

    def build_lr_scheduler(self, optimizer: Any) -> Any:
        return [
            mt.LRSchedule(torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.99**step), per="batch"),
            torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0),
        ]

    def build_callbacks(self) -> Any:
        from mnist_trials.training.callbacks import EarlyStopping

        return {"patience": EarlyStopping("validation_loss", patience=100)}

    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        images, labels = batch
        assert batch_idx == self.seen
        self.seen += 1
        logits = self.model(images)
        self.hits.update(logits, labels)
        return {"loss": cross_entropy(logits, labels), "train_accuracy": self.hits, "rate": random.random()}

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def load_state_dict(self, state: Any) -> None:
        self.seen = state["seen"]


class WithLoader(Adam):
    workers = 0

    def build_data(self) -> Any:
        loader = DataLoader(Noisy(), batch_size=8, shuffle=True, num_workers=self.workers)
        return loader, DataLoader(Noisy(), batch_size=16, num_workers=0)


class WithWorkers(WithLoader):
    workers = 2


class WithDataset(Adam):
    def build_data(self) -> Any:
        return Noisy(), Noisy()


class WithOwnSampler(Adam):
    own_generator = False

    def build_data(self) -> Any:
        data = Noisy()
        generator = torch.Generator().manual_seed(1) if self.own_generator else None
        sampler = WeightedRandomSampler([1.0] * len(data), 50, generator=generator)
        return DataLoader(data, batch_size=8, sampler=sampler), DataLoader(data, batch_size=16)


class WithOwnGenerator(WithOwnSampler):
    own_generator = True


class WithIterable(Adam):
    def build_data(self) -> Any:
        return DataLoader(Counting(), batch_size=8), DataLoader(Counting(), batch_size=16)


def facts(run: Run) -> list[Any]:
    """What was reported, without what depends on the clock."""
    kinds = (MetricsReported, ValidationCompleted)
    return [
        (type(e).__name__, e.batches, e.epochs, e.records, e.metrics)
        for e in run.channel.events
        if isinstance(e, kinds)
    ]
