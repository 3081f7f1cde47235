"""On the real MNIST."""

from __future__ import annotations

from pathlib import Path

import torch
from torchvision.datasets import MNIST

from mnist_trials.mnist.data.folder import require_in
from mnist_trials.mnist.data.images import ImageDataset


def test_the_real_mnist_reads_as_torchvision_reads_it(mnist_root: Path) -> None:
    train, test = require_in(mnist_root, "the root").read()
    for ours, part in ((train, True), (test, False)):
        theirs = MNIST(mnist_root, train=part)
        assert torch.equal(ours.images[:, 0], theirs.data)
        assert torch.equal(ours.labels, theirs.targets)


def test_an_image_dataset_gives_the_items_torchvision_gives(mnist_root: Path) -> None:
    ours = ImageDataset(require_in(mnist_root, "the root").read()[1])
    theirs = MNIST(mnist_root, train=False)
    assert len(ours) == len(theirs)
    for index in (0, 4711):
        (image, label), (expected, number) = ours[index], theirs[index]
        assert (image.mode, image.size, label) == (expected.mode, expected.size, number)
        assert image.tobytes() == expected.tobytes()
