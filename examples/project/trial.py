"""A trial: which model, which data, and how a batch is trained and judged. The runtime does the rest."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

import mnist_trials as mt
from mnist_trials.mnist.data import build_data


class MNISTTrial(mt.Trial):
    """A small convolutional network for handwritten digits."""

    def build_model(self) -> nn.Module:
        hparams = self.context.hparams
        return nn.Sequential(
            nn.Conv2d(1, hparams["n_filters1"], kernel_size=3),
            nn.ReLU(),
            nn.Conv2d(hparams["n_filters1"], hparams["n_filters2"], kernel_size=3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Dropout(hparams["dropout1"]),
            nn.Flatten(),
            nn.Linear(hparams["n_filters2"] * 12 * 12, 128),
            nn.ReLU(),
            nn.Dropout(hparams["dropout2"]),
            nn.Linear(128, 10),
        )

    def build_optimizer(self, model: Any) -> torch.optim.Optimizer:
        return torch.optim.Adadelta(model.parameters(), lr=self.context.hparams["learning_rate"])

    def build_data(self) -> Any:
        # MNIST if it can be had, else small digits that come with the package. Any pair of torch Datasets,
        # DataLoaders or mt.TensorData will do here: (training, validation).
        return build_data(self.context)

    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> dict[str, Any]:
        images, labels = batch
        return {"loss": functional.cross_entropy(self.model(images), labels)}

    def evaluate_batch(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        images, labels = batch
        logits = self.model(images)
        return {
            "validation_loss": functional.cross_entropy(logits, labels),
            "accuracy": (logits.argmax(dim=1) == labels).float().mean(),
        }
