"""The bundled digits: small, real, and there without a network.

They are the 1,797 images of the UCI set "Optical Recognition of Handwritten Digits" that scikit-learn ships
(E. Alpaydin and C. Kaynak, 1998; CC BY 4.0, see DIGITS_LICENSE.txt), kept here as they are, 8 x 8 with 0..16 per
pixel. `read_digits` enlarges them to what MNIST looks like: 20 x 20 in the middle of 28 x 28, 0..255.
"""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import numpy.typing as npt
import torch

from mnist_trials.mnist.data.arrays import Arrays
from mnist_trials.mnist.data.idx import SIDE

TEST_COUNT = 297
"""The last 297 images are the test set, the 1,500 before them the training set."""

_BOX = 20  # MNIST's digits lie in the middle 20 x 20 pixels
_SOURCE = 8
_TENTHS = 10


def read_digits() -> tuple[Arrays, Arrays]:
    """The training set (1,500) and the test set (297)."""
    with (
        (files("mnist_trials.mnist.data") / "digits.npz").open("rb") as file,
        np.load(file, allow_pickle=False) as kept,
    ):
        small, labels = kept["images"], kept["labels"]
    images = torch.from_numpy(enlarge(small)).unsqueeze(1)
    classes = torch.from_numpy(labels.astype(np.int64))
    cut = len(images) - TEST_COUNT
    return Arrays(images[:cut], classes[:cut]), Arrays(images[cut:], classes[cut:])


def enlarge(small: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Images of [n, 8, 8] with values 0..16 as [n, 28, 28] with values 0..255.

    Bilinear between pixel centres, the border repeated. All weights are tenths, so the arithmetic is exact in
    integers and the result is the same on every machine.
    """
    weights = _weights()
    grown = weights @ small.astype(np.int64) @ weights.T
    whole = 16 * _TENTHS**2
    images = np.zeros((len(small), SIDE, SIDE), dtype=np.uint8)
    edge = (SIDE - _BOX) // 2
    images[:, edge : edge + _BOX, edge : edge + _BOX] = (grown * 255 + whole // 2) // whole
    return images


def _weights() -> npt.NDArray[np.int64]:
    """How much of each of 8 pixels each of 20 is made of, in tenths; every row sums to 10."""
    weights = np.zeros((_BOX, _SOURCE), dtype=np.int64)
    for row in range(_BOX):
        # The centre of pixel `row`, in tenths of a source pixel: 10 * ((row + 1/2) * 8/20 - 1/2).
        low, share = divmod(4 * row - 3, _TENTHS)
        weights[row, max(low, 0)] += _TENTHS - share
        weights[row, min(low + 1, _SOURCE - 1)] += share
    return weights
