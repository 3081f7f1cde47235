"""Splitting a training set."""

from __future__ import annotations

import pytest
import torch

from mnist_trials.errors import DataError
from mnist_trials.mnist.data.arrays import Arrays, fake, split


def numbered(count: int) -> Arrays:
    return Arrays(torch.zeros(count, 1, 28, 28, dtype=torch.uint8), torch.arange(count))


def test_both_parts_together_are_the_whole_set_without_repeats() -> None:
    train, validation = split(numbered(100), 0.8, seed=3)
    assert (len(train), len(validation)) == (80, 20)
    assert sorted([*train.labels.tolist(), *validation.labels.tolist()]) == list(range(100))


def test_the_split_is_a_function_of_its_seed_alone() -> None:
    torch.manual_seed(1)
    first = split(numbered(50), 0.5, seed=7)[0].labels
    torch.manual_seed(2)
    assert torch.equal(split(numbered(50), 0.5, seed=7)[0].labels, first)
    assert not torch.equal(split(numbered(50), 0.5, seed=8)[0].labels, first)


def test_a_ratio_that_leaves_a_side_empty_is_refused() -> None:
    with pytest.raises(DataError, match=r"data.train_ratio 0.001 leaves one side of 10 images without any"):
        split(numbered(10), 0.001, seed=0)


def test_fake_images_have_the_shape_of_real_ones() -> None:
    arrays = fake(7, seed=1)
    assert arrays.images.shape == (7, 1, 28, 28)
    assert arrays.images.dtype == torch.uint8
    assert 0 <= int(arrays.labels.min()) <= int(arrays.labels.max()) <= 9
