"""Data that lies in memory as a whole, for the fastest way to train on a small data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch

from mnist_trials.errors import DataError


@final
@dataclass(frozen=True, slots=True, eq=False)
class TensorData:
    """A whole data set as two tensors with one row per sample; a batch is `(images, labels)`.

    The runtime moves both to the device once, shuffles training data by (seed, epoch), gathers the rows of every batch
    there and applies `transform` to the gathered images: so images are best kept as uint8 and made floats in it.

    `drop_last` leaves out the short last batch of every epoch; validation data is always used whole.

    Raises:
        DataError: no sample, or another number of images than of labels.
    """

    images: torch.Tensor  # (samples, ...)
    labels: torch.Tensor  # (samples, ...)
    transform: Callable[[torch.Tensor], torch.Tensor] | None = None  # of a batch of images, on the device
    drop_last: bool = False

    def __post_init__(self) -> None:
        given: tuple[tuple[str, object], ...] = (("images", self.images), ("labels", self.labels))
        for name, tensor in given:
            if not isinstance(tensor, torch.Tensor) or tensor.ndim == 0:
                raise DataError(f"TensorData takes a tensor with one row per sample as {name}, not {tensor!r}.")
        if len(self.images) != len(self.labels):
            raise DataError(
                f"TensorData was given {len(self.images)} images (shape {tuple(self.images.shape)}) but "
                f"{len(self.labels)} labels (shape {tuple(self.labels.shape)}); there must be one label per image."
            )
        if len(self.images) == 0:
            raise DataError("TensorData was given no sample at all.")

    def __len__(self) -> int:
        return len(self.images)
