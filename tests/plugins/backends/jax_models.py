"""Trials of the tests of the backend `jax`; imported in its process only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import torch
from flax import linen
from typing_extensions import override

import mnist_trials as mt
from tests.training.lab import samples


def cross_entropy(logits: Any, labels: Any) -> Any:
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1).mean()


def init(key: Any) -> Any:
    first, second = jax.random.split(key)
    draw = jax.nn.initializers.lecun_normal()
    return {
        "hidden": {"weight": draw(first, (16, 8)), "bias": jnp.zeros(8)},
        "out": {"weight": draw(second, (8, 3)), "bias": jnp.zeros(3)},
    }


def apply(params: Any, images: Any) -> Any:
    hidden = jax.nn.relu(images @ params["hidden"]["weight"] + params["hidden"]["bias"])
    return hidden @ params["out"]["weight"] + params["out"]["bias"]


class Pure(mt.Trial):
    """100 samples to learn from: 12 batches of 8 and one of 4."""

    @override
    def build_model(self) -> Any:
        return init, apply

    @override
    def build_data(self) -> Any:
        return mt.TensorData(*samples()), mt.TensorData(*samples(30, seed=1))

    def inputs(self, images: Any) -> Any:
        return images.reshape(len(images), -1).astype(jnp.float32) / 255

    @override
    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        images, labels = batch
        return {"loss": cross_entropy(self.model(self.inputs(images)), labels)}

    @override
    def evaluate_batch(self, batch: Any, batch_idx: int) -> Mapping[str, Any]:
        images, labels = batch
        logits = self.model(self.inputs(images))
        return {"validation_loss": cross_entropy(logits, labels), "accuracy": (logits.argmax(1) == labels).mean()}

    @override
    def sharding_rules(self) -> Any:
        return {
            r"params\.hidden\.weight": (None, "tensor"),
            r"params\.hidden\.bias": ("tensor",),
            r"params\.out\.weight": ("tensor", None),
        }


class Module(linen.Module):
    """A hidden layer with dropout."""

    rate: float = 0.3

    @linen.compact
    def __call__(self, images: Any, train: bool = False) -> Any:
        hidden = linen.relu(linen.Dense(8)(images))
        return linen.Dense(3)(linen.Dropout(self.rate, deterministic=not train)(hidden))


class Linen(Pure):
    """The same in Flax, with dropout."""

    @override
    def build_model(self) -> Any:
        return Module()

    @override
    def sharding_rules(self) -> Any:
        return {
            r"params\.Dense_0\.kernel": (None, "tensor"),
            r"params\.Dense_0\.bias": ("tensor",),
            r"params\.Dense_1\.kernel": ("tensor", None),
        }


class Normed(linen.Module):
    """With batch normalisation."""

    @linen.compact
    def __call__(self, images: Any, train: bool = True) -> Any:
        hidden = linen.BatchNorm(use_running_average=not train, momentum=0.5)(linen.Dense(8)(images))
        return linen.Dense(3)(linen.relu(hidden))


class Convolving(linen.Module):
    """A convolution, then a layer."""

    @linen.compact
    def __call__(self, images: Any) -> Any:
        grids = images.reshape(len(images), 4, 4, 1)
        return linen.Dense(3)(linen.relu(linen.Conv(2, (3, 3))(grids)).reshape(len(images), -1))


class Convolved(Pure):
    """Convolves."""

    @override
    def build_model(self) -> Any:
        return Convolving()


class Torch(mt.Trial):
    """What `Pure` computes, in torch."""

    @override
    def build_model(self) -> Any:
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))

    @override
    def build_data(self) -> Any:
        def unit(images: Any) -> Any:
            return images.float() / 255

        return mt.TensorData(*samples(), unit), mt.TensorData(*samples(30, seed=1), unit)

    @override
    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        images, labels = batch
        return {"loss": torch.nn.functional.cross_entropy(self.model(images), labels)}

    @override
    def evaluate_batch(self, batch: Any, batch_idx: int) -> Mapping[str, Any]:
        images, labels = batch
        logits = self.model(images)
        hits = (logits.argmax(1) == labels).float().mean()
        return {"validation_loss": torch.nn.functional.cross_entropy(logits, labels), "accuracy": hits}
