"""The trials that `backends.py` measures: the same MLP and CNN for torch and for JAX, and a callback that stamps the
clocks at the end of every epoch."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import torch

from mnist_trials import Callback, TensorData, Trial
from mnist_trials.mnist.models import ConvNet, LinearStack

PIXELS, SIDE, CLASSES = 784, 28, 10
STEPS = {"MLP": 60, "CNN": 12}  # per epoch


class Stamps(Callback):
    """Writes CPU seconds (of all threads) and wall seconds of every epoch."""

    def __init__(self) -> None:
        self.marks = [self.now()]

    def now(self) -> tuple[float, float]:
        return time.process_time(), time.perf_counter()

    def on_training_start(self) -> None:
        self.marks = [self.now()]

    def on_epoch_end(self, epoch_idx: int) -> None:
        self.marks.append(self.now())
        epochs = [(b[0] - a[0], b[1] - a[1]) for a, b in zip(self.marks, self.marks[1:])]
        Path(os.environ["BENCHMARK_EPOCHS"]).write_text(json.dumps(epochs))


def made_up(model: str, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """As many batches of random images as an epoch has: what is in them makes no difference to the time."""
    generator = torch.Generator().manual_seed(1)
    count = STEPS[model] * batch
    shape = (count, PIXELS) if model == "MLP" else (count, 1, SIDE, SIDE)
    images = torch.randn(shape, generator=generator)
    return images, torch.randint(0, CLASSES, (count,), generator=generator)


def torch_model(model: str) -> torch.nn.Module:
    torch.manual_seed(0)
    if model == "MLP":
        return LinearStack(512, bias=False)
    net = ConvNet((32, 64), (0.25, 0.5), bias=False)
    torch.nn.utils.convert_conv2d_weight_memory_format(net, torch.channels_last)
    return net


def flax_model(model: str) -> Any:
    import jax.numpy as jnp
    from flax import linen

    class Stack(linen.Module):
        @linen.compact
        def __call__(self, x: Any, train: bool = True) -> Any:
            for width in (512, 512):
                x = linen.relu(linen.Dense(width, use_bias=False)(x))
            return linen.Dense(CLASSES, use_bias=False)(x)

    class Convolutions(linen.Module):
        @linen.compact
        def __call__(self, x: Any, train: bool = True) -> Any:
            x = jnp.moveaxis(x, 1, -1)
            x = linen.relu(linen.Conv(32, (3, 3), padding="VALID", use_bias=False)(x))
            x = linen.max_pool(linen.Conv(64, (3, 3), padding="VALID", use_bias=False)(x), (2, 2), (2, 2))
            x = linen.Dropout(0.25, deterministic=not train)(linen.relu(x))
            x = linen.relu(linen.Dense(128, use_bias=False)(x.reshape(x.shape[0], -1)))
            return linen.Dense(CLASSES, use_bias=False)(linen.Dropout(0.5, deterministic=not train)(x))

    return Stack() if model == "MLP" else Convolutions()


class Epochs(Trial):
    """Data and callback of all of them."""

    def build_data(self) -> tuple[TensorData, TensorData]:
        images, labels = made_up(self.context.hparams["model"], self.context.global_batch_size)
        return TensorData(images, labels), TensorData(images[:256], labels[:256])

    def build_callbacks(self) -> list[Callback]:
        return [Stamps()]


class TorchEpochs(Epochs):
    def build_model(self) -> torch.nn.Module:
        return torch_model(self.context.hparams["model"])

    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        images, labels = batch
        return {"loss": torch.nn.functional.cross_entropy(self.model(images), labels)}

    def evaluate_batch(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        images, labels = batch
        return {"validation_loss": torch.nn.functional.cross_entropy(self.model(images), labels)}


class JaxEpochs(Epochs):
    def build_model(self) -> Any:
        return flax_model(self.context.hparams["model"])

    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        return {"loss": self.loss(batch, train=True)}

    def evaluate_batch(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        return {"validation_loss": self.loss(batch, train=False)}

    def loss(self, batch: Any, train: bool) -> Any:
        import optax

        images, labels = batch
        return optax.softmax_cross_entropy_with_integer_labels(self.model(images, train=train), labels).mean()
