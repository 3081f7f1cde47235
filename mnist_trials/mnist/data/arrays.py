"""A set of images with their labels, in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch

from mnist_trials.errors import DataError
from mnist_trials.mnist.data.idx import CLASSES, SIDE


@final
@dataclass(frozen=True, slots=True)
class Arrays:
    """Images, uint8 of [n, 1, 28, 28], and their labels, int64 of [n], each from 0 to 9."""

    images: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def pick(self, indices: torch.Tensor) -> Arrays:
        """The images and labels at `indices`, copied."""
        return Arrays(self.images[indices], self.labels[indices])


def split(arrays: Arrays, ratio: float, seed: int) -> tuple[Arrays, Arrays]:
    """Two parts of `arrays`: round(ratio * n) of them, and the others, by a permutation that `seed` alone decides.

    Raises:
        DataError: one of the parts would be empty.
    """
    first = round(ratio * len(arrays))
    if not 0 < first < len(arrays):
        raise DataError(f"data.train_ratio {ratio} leaves one side of {len(arrays)} images without any.")
    order = torch.randperm(len(arrays), generator=torch.Generator().manual_seed(seed))
    return arrays.pick(order[:first]), arrays.pick(order[first:])


def fake(count: int, seed: int) -> Arrays:
    """`count` random images with random labels."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 1, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    return Arrays(images, torch.randint(0, CLASSES, (count,), generator=generator))
