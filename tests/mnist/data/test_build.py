"""From the `data` section to the batches a trial is given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from mnist_trials.errors import ConfigError, DataError
from mnist_trials.events import DatasetChosen, Notice
from mnist_trials.mnist.data import build_data, load_arrays
from mnist_trials.mnist.data.digits import read_digits
from mnist_trials.training.context import TrialContext
from mnist_trials.training.data.tensors import TensorData

BATCH = {"global_batch_size": 64}
MakeContext = Callable[..., TrialContext]


def batch(data: TensorData, count: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    assert data.transform is not None
    return data.transform(data.images[:count]), data.labels[:count]


def test_images_are_normalised_as_torchvision_does_it(make_context: MakeContext) -> None:
    _, validation = build_data(make_context(BATCH, {"name": "digits"}))
    images, labels = batch(validation)
    raw, classes = read_digits()[1].images[:5], read_digits()[1].labels[:5]
    torch.testing.assert_close(images, (raw.float() / 255 - 0.1307) / 0.3081, atol=1e-6, rtol=1e-6)
    assert torch.equal(labels, classes)
    assert images.shape == (5, 1, 28, 28)


def test_unit_leaves_pixels_between_zero_and_one(make_context: MakeContext) -> None:
    _, validation = build_data(make_context(BATCH, {"name": "digits", "normalize": "unit"}))
    images, _ = batch(validation)
    torch.testing.assert_close(images, read_digits()[1].images[:5].float() / 255)


def test_images_and_one_hot_labels_come_in_the_dtype_asked_for(make_context: MakeContext) -> None:
    train, _ = build_data(make_context(BATCH, {"fake": True, "dtype": "bfloat16", "one_hot": True}))
    images, labels = batch(train)
    assert (images.dtype, labels.dtype) == (torch.bfloat16, torch.bfloat16)
    assert labels.shape == (5, 10)
    assert labels.sum(dim=1).tolist() == [1.0] * 5


def test_class_numbers_stay_numbers_in_every_dtype(make_context: MakeContext) -> None:
    train, _ = build_data(make_context(BATCH, {"fake": True, "dtype": "bfloat16"}))
    assert train.labels.dtype == torch.int64


def test_the_official_split_is_the_default(make_context: MakeContext) -> None:
    train, validation = build_data(make_context(BATCH, {"name": "digits"}))
    assert (len(train), len(validation)) == (1500, 297)


def test_a_train_ratio_takes_validation_from_the_training_set(make_context: MakeContext) -> None:
    train, validation = build_data(make_context(BATCH, {"name": "digits", "train_ratio": 0.8, "split_seed": 42}))
    assert (len(train), len(validation)) == (1200, 300)
    together = torch.cat([train.images, validation.images]).sum(dim=(1, 2, 3)).sort().values
    assert torch.equal(together, read_digits()[0].images.sum(dim=(1, 2, 3)).sort().values)


def test_no_sample_is_left_out_unless_that_is_asked_for(make_context: MakeContext) -> None:
    train, validation = build_data(make_context(BATCH, {"name": "digits"}))
    assert not train.drop_last
    assert len(validation) == 297
    train, validation = build_data(make_context(BATCH, {"name": "digits", "drop_last": True}))
    assert train.drop_last
    assert len(validation) == 256


def test_dropping_the_only_batch_is_an_error(make_context: MakeContext) -> None:
    context = make_context({"global_batch_size": 500}, {"name": "digits", "drop_last": True})
    with pytest.raises(DataError, match="297 images do not fill one batch of 500"):
        build_data(context)


@pytest.mark.parametrize(
    "data",
    [
        {"normalize": "standard"},
        {"normalize": "unit", "one_hot": True},
        {"dtype": "bfloat16", "one_hot": True},
        {"drop_last": True},
    ],
)
def test_both_loaders_hand_over_the_same_validation_batches(make_context: MakeContext, data: dict[str, Any]) -> None:
    tensor = build_data(make_context(BATCH, {"name": "digits", **data}))[1]
    loader = build_data(make_context(BATCH, {"name": "digits", "loader": "torchvision", **data}))[1]
    assert isinstance(loader, DataLoader)
    batches = list(loader)
    images, labels = batch(tensor, len(tensor))
    tolerance = 1e-2 if images.dtype == torch.bfloat16 else 1e-6
    found = torch.cat([images for images, _ in batches])
    torch.testing.assert_close(found, images, atol=tolerance, rtol=tolerance)
    assert torch.equal(torch.cat([labels for _, labels in batches]), labels)
    assert [len(labels) for _, labels in batches][:2] == [64, 64]


def test_the_loader_has_the_workers_asked_for(make_context: MakeContext) -> None:
    data = {"name": "digits", "loader": "torchvision", "num_workers": 2}
    train, validation = build_data(make_context(BATCH, data))
    assert (train.num_workers, validation.num_workers) == (2, 2)
    images, labels = next(iter(train))
    assert images.shape == (64, 1, 28, 28)
    assert labels.dtype == torch.int64


def test_the_choice_is_told_once_and_a_choice_made_on_purpose_needs_no_notice(
    make_context: MakeContext, channel: Any
) -> None:
    build_data(make_context(BATCH, {"name": "digits"}))
    (event,) = channel.events
    assert isinstance(event, DatasetChosen)
    assert (event.dataset, event.fallback) == ("digits", False)


def test_a_fallback_is_told_in_the_record_and_in_a_notice(
    make_context: MakeContext, channel: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MNIST_TRIALS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MNIST_TRIALS_DATA", raising=False)
    monkeypatch.setattr("torchvision.datasets.MNIST.mirrors", ["http://127.0.0.1:9/"])
    build_data(make_context(BATCH, {}))
    chosen, notice = channel.events
    assert isinstance(chosen, DatasetChosen)
    assert (chosen.dataset, chosen.fallback) == ("digits", True)
    assert isinstance(notice, Notice)
    assert notice.message.startswith("MNIST was not found; this trains on the bundled digits")
    assert "--data-root" in notice.message


def test_only_the_first_rank_speaks(make_context: MakeContext, channel: Any) -> None:
    load_arrays(make_context(BATCH, {"name": "digits"}, rank=1))
    assert channel.events == []


def test_a_mistake_in_the_section_is_told_before_anything_is_read(make_context: MakeContext, channel: Any) -> None:
    with pytest.raises(ConfigError, match=r"data\.normalise: there is no such option"):
        build_data(make_context(BATCH, {"normalise": "unit"}))
    assert channel.events == []
