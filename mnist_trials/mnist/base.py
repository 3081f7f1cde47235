"""What the trials of this package share: data, loss, metrics, schedule."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from typing_extensions import override

from mnist_trials.mnist.data import build_data, build_test_data
from mnist_trials.mnist.losses import LOSSES, as_classes
from mnist_trials.training.trial import Trial

if TYPE_CHECKING:
    from mnist_trials.training.context import TrialContext


class MNISTTrial(Trial):
    """Classifies images of 28 x 28 into ten classes; a subclass builds the model.

    The data are those of the config's `data` section. The hyperparameter `loss` names the loss (cross_entropy by
    default), `optimizer` and `learning_rate` the optimizer, `lr_schedule` how the rate changes. Validation metrics are
    `validation_loss`, with the same loss, and `accuracy`.
    """

    def __init__(self, context: TrialContext) -> None:
        super().__init__(context)
        self._loss = LOSSES[context.hparams.get("loss", "cross_entropy")]
        self._dtype: torch.dtype | None = None

    @abstractmethod
    @override
    def build_model(self) -> nn.Module: ...

    @override
    def build_data(self) -> Any:
        return build_data(self.context)

    @override
    def build_test_data(self) -> Any:
        return build_test_data(self.context)

    @override
    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> dict[str, Any]:
        images, labels = batch
        return {"loss": self._loss(self._logits(images), labels)}

    @override
    def evaluate_batch(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        images, labels = batch
        logits = self._logits(images)
        hits = logits.argmax(dim=1) == as_classes(labels)
        return {"validation_loss": self._loss(logits, labels), "accuracy": hits.float().mean()}

    def _logits(self, images: torch.Tensor) -> torch.Tensor:
        """The model's output. Images may be rounded more coarsely than the weights, which then decide the precision."""
        if self._dtype is None:
            self._dtype = next(self.model.parameters()).dtype
        logits: torch.Tensor = self.model(images.to(self._dtype))
        return logits
