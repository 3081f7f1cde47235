"""The trials of the JAX and Flax references, for `backend: jax`: `mnist_trials.mnist.jax_trials:FlaxMLP`.

Nothing else imports this module, as it imports jax. docs/jax.md tells how such trials are written.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, final

import jax
import jax.numpy as jnp
from flax import linen
from typing_extensions import override

from mnist_trials.mnist.data import build_data, build_test_data
from mnist_trials.mnist.data.build import MEAN, STD
from mnist_trials.mnist.data.idx import CLASSES, SIDE
from mnist_trials.mnist.data.options import read_options
from mnist_trials.plugin import Rules
from mnist_trials.training.callbacks import Callback, EarlyStopping
from mnist_trials.training.data.tensors import TensorData
from mnist_trials.training.torch_models.registry import Registry
from mnist_trials.training.trial import Trial

if TYPE_CHECKING:
    from mnist_trials.training.context import TrialContext

_PIXELS: Final = SIDE * SIDE
_HIDDEN: Final = 128

ACTIVATIONS: Final[Registry[Callable[[jax.Array], jax.Array]]] = Registry(
    "activation",
    {
        "relu": jax.nn.relu,
        "gelu": jax.nn.gelu,
        "tanh": jnp.tanh,
        "sigmoid": jax.nn.sigmoid,
        "silu": jax.nn.silu,
        "none": lambda features: features,
    },
)
"""Activations that the hyperparameter `activation` may name."""


class JaxMNISTTrial(Trial):
    """Classifies images of 28 x 28 into ten classes by softmax cross entropy; a subclass builds the model.

    The data are those of the config's `data` section. Hyperparameters: `optimizer` and `learning_rate`; `patience`, to
    stop after so many validations without a `validation_loss` better by `min_delta` (0 by default). Validation metrics
    are `validation_loss` and `accuracy`.
    """

    def __init__(self, context: TrialContext) -> None:
        super().__init__(context)
        self._options = read_options(context.data)

    @abstractmethod
    @override
    def build_model(self) -> Any: ...

    @override
    def build_data(self) -> Any:
        """Images as they were read, uint8: they are normalised in the step, where they are gathered."""
        return tuple(map(_untransformed, build_data(self.context)))

    @override
    def build_test_data(self) -> Any:
        return _untransformed(build_test_data(self.context))

    @override
    def build_callbacks(self) -> list[Callback]:
        hparams = self.context.hparams
        if hparams.get("patience") is None:
            return []
        return [EarlyStopping("validation_loss", patience=hparams["patience"], min_delta=hparams.get("min_delta", 0.0))]

    @override
    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> dict[str, Any]:
        images, labels = batch
        return {"loss": cross_entropy(self.model(self._inputs(images)), labels)}

    @override
    def evaluate_batch(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        images, labels = batch
        logits = self.model(self._inputs(images))
        hits = logits.argmax(axis=1) == (labels if labels.ndim == 1 else labels.argmax(axis=1))
        return {"validation_loss": cross_entropy(logits, labels), "accuracy": hits.mean()}

    def _inputs(self, images: jax.Array) -> jax.Array:
        """Images of [n, ...] as normalised rows of [n, 784]; those that a DataLoader made are normalised already."""
        rows = images.reshape(len(images), _PIXELS)
        if rows.dtype != jnp.uint8:
            return rows
        unit = rows.astype(jnp.float32) / 255
        normalised = unit if self._options.normalize == "unit" else (unit - MEAN) / STD
        return normalised.astype(self._options.dtype)


@final
class JaxMLP(JaxMNISTTrial):
    """The pure JAX reference: 784-128-128-10 with ReLU, weights from Lecun's normal distribution, biases 0."""

    @override
    def build_model(self) -> Any:
        return init_mlp, apply_mlp

    @override
    def sharding_rules(self) -> Rules:
        """By outputs, by inputs: nothing is exchanged between the first two layers; the last one stays whole."""
        return {
            r"params\.0\.weight": (None, "tensor"),
            r"params\.0\.bias": ("tensor",),
            r"params\.1\.weight": ("tensor", None),
        }


@final
class FlaxMLP(JaxMNISTTrial):
    """The same in Flax linen.

    Hyperparameters: `hidden_size` (128 by default), `activation` (relu by default; none is what the reference ran).
    """

    @override
    def build_model(self) -> linen.Module:
        hparams = self.context.hparams
        activation = ACTIVATIONS[hparams.get("activation", "relu")]
        return MLP(hidden_size=hparams.get("hidden_size", _HIDDEN), activation=activation)

    @override
    def sharding_rules(self) -> Rules:
        """By outputs, by inputs: nothing is exchanged between the first two layers; the last one stays whole."""
        return {
            r"params\.Dense_0\.kernel": (None, "tensor"),
            r"params\.Dense_0\.bias": ("tensor",),
            r"params\.Dense_1\.kernel": ("tensor", None),
        }


@final
class MLP(linen.Module):
    """Two hidden layers: rows of [n, 784] to logits of [n, 10]."""

    hidden_size: int
    activation: Callable[[jax.Array], jax.Array]

    @linen.compact
    @override
    def __call__(self, rows: jax.Array) -> jax.Array:
        """The logits."""
        for _ in range(2):
            rows = self.activation(linen.Dense(self.hidden_size)(rows))
        return linen.Dense(CLASSES)(rows)


def init_mlp(key: jax.Array) -> list[dict[str, jax.Array]]:
    """New parameters: a dict with `weight` [in, out] and `bias` [out] for each of three layers."""
    sizes = (_PIXELS, _HIDDEN, _HIDDEN, CLASSES)
    draw = jax.nn.initializers.lecun_normal()
    keys = jax.random.split(key, len(sizes) - 1)
    shapes = zip(keys, sizes[:-1], sizes[1:], strict=True)
    return [{"weight": draw(key, (before, after)), "bias": jnp.zeros(after)} for key, before, after in shapes]


def apply_mlp(params: list[dict[str, jax.Array]], rows: jax.Array) -> jax.Array:
    """Logits of [n, 10] for rows of [n, 784]."""
    *hidden, last = params
    for layer in hidden:
        rows = jax.nn.relu(rows @ layer["weight"] + layer["bias"])
    return rows @ last["weight"] + last["bias"]


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Softmax cross entropy, the mean over the batch; `labels` are class numbers of [n] or vectors of [n, classes]."""
    logs = jax.nn.log_softmax(logits)
    if labels.ndim == 1:
        return -jnp.take_along_axis(logs, labels[:, None], axis=1).mean()
    return -(labels * logs).sum(axis=1).mean()


def _untransformed(data: Any) -> Any:
    return replace(data, transform=None) if isinstance(data, TensorData) else data
