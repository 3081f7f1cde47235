"""The bundled digits."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import torch

from mnist_trials.mnist.data.digits import enlarge, read_digits


def test_there_are_1500_to_train_and_297_to_test_of_every_class() -> None:
    train, test = read_digits()
    assert (len(train), len(test)) == (1500, 297)
    assert train.images.shape == (1500, 1, 28, 28)
    assert train.images.dtype == torch.uint8
    assert int(train.labels.bincount().min()) >= 140
    assert int(test.labels.bincount().min()) >= 25


def test_they_look_like_mnist_with_an_empty_border_of_four_pixels() -> None:
    images = read_digits()[0].images[:, 0]
    assert int(images[:, 4:24, 4:24].max()) == 255
    border = images.clone()
    border[:, 4:24, 4:24] = 0
    assert int(border.max()) == 0
    assert 0.10 < float(images.float().mean() / 255) < 0.20  # MNIST's is 0.13


def test_enlarging_keeps_a_flat_image_flat_and_the_average_of_any_other() -> None:
    flat = np.full((1, 8, 8), 16, dtype=np.uint8)
    assert (enlarge(flat)[0, 4:24, 4:24] == 255).all()
    some = np.random.default_rng(0).integers(0, 17, (3, 8, 8), dtype=np.uint8)
    means = enlarge(some)[:, 4:24, 4:24].mean(axis=(1, 2))
    np.testing.assert_allclose(means, some.mean(axis=(1, 2)) * 255 / 16, atol=6)


def test_enlarging_agrees_with_torch() -> None:
    some = np.random.default_rng(1).integers(0, 17, (4, 8, 8), dtype=np.uint8)
    want = torch.nn.functional.interpolate(
        torch.from_numpy(some)[:, None].double() * 255 / 16, size=(20, 20), mode="bilinear", align_corners=False
    )[:, 0]
    found = torch.from_numpy(enlarge(some)[:, 4:24, 4:24]).double()
    assert float((want - found).abs().max()) <= 0.5 + 1e-6


def test_the_file_is_small_and_its_licence_is_beside_it() -> None:
    folder = files("mnist_trials.mnist.data")
    assert len((folder / "digits.npz").read_bytes()) < 100_000
    licence = (folder / "DIGITS_LICENSE.txt").read_text(encoding="utf-8")
    assert "CC BY 4.0" in licence
    assert "BSD 3-Clause" in licence
