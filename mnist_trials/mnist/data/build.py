"""From the `data` section of a trial's config to what its `build_data` returns."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from operator import getitem
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mnist_trials.errors import DataError
from mnist_trials.mnist.data.arrays import Arrays, split
from mnist_trials.mnist.data.idx import CLASSES
from mnist_trials.mnist.data.options import DataOptions, read_options
from mnist_trials.mnist.data.source import VARIABLE, Source, choose_source
from mnist_trials.training.data.tensors import TensorData

if TYPE_CHECKING:
    from mnist_trials.training.context import TrialContext

MEAN, STD = 0.1307, 0.3081
"""Of MNIST's training pixels, in 0..1."""

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def build_data(context: TrialContext) -> tuple[Any, Any]:
    """Training and validation data as the config's `data` section asks, ready to be returned by a trial.

    A batch is (images, labels): images of [n, 1, 28, 28], normalised, in `data.dtype`; labels int64 of [n], or
    `data.dtype` of [n, 10] with `one_hot`.

    Raises:
        ConfigError: an option does not exist or is out of range.
        DataError: see `load_arrays`; or `drop_last` leaves nothing to validate on.
    """
    options = read_options(context.data)
    train, validation = load_arrays(context)
    if options.drop_last:
        validation = _whole_batches(validation, context.global_batch_size)
    if options.loader == "torchvision":
        return _loaders(context, options, train, validation)
    return _tensor_data(options, train), _tensor_data(options, validation)


def build_test_data(context: TrialContext) -> Any:
    """The data set's own test images, as `build_data` makes its validation data.

    Without `train_ratio` in the `data` section these are the validation data as well.

    Raises:
        ConfigError, DataError: as `build_data`.
    """
    options = read_options(context.data)
    source = _source(context, options)
    test = _whole_batches(source.test, context.global_batch_size) if options.drop_last else source.test
    if options.loader == "torchvision":
        return _loaders(context, options, source.train, test)[1]
    return _tensor_data(options, test)


def load_arrays(context: TrialContext) -> tuple[Arrays, Arrays]:
    """The training and validation images and labels, untransformed, for a trial's own pipeline.

    Which data set it is, is told to the context.

    Raises:
        ConfigError: an option of the `data` section does not exist or is out of range.
        DataError: the data set asked for is not there, or a file of it is damaged; the text names it.
    """
    options = read_options(context.data)
    source = _source(context, options)
    if options.train_ratio is None:
        return source.train, source.test
    return split(source.train, options.train_ratio, options.split_seed)


def _source(context: TrialContext, options: DataOptions) -> Source:
    here = Path(context.spec.started_in or Path.cwd())
    source = choose_source(options, context.data_root, _home(), here)
    _tell(context, source)
    return source


def _tell(context: TrialContext, source: Source) -> None:
    if source.name in context.datasets:
        return
    context.dataset_chosen(source.name, source.detail, fallback=source.in_place_of_mnist is not None)
    if source.in_place_of_mnist is not None and context.rank == 0:
        context.notice(
            f"MNIST was not found; this trains on the bundled digits, whose numbers do not compare with MNIST's. "
            f"{source.in_place_of_mnist}. Name a folder that holds MNIST with --data-root or {VARIABLE}."
        )


def normalizer(options: DataOptions) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function from uint8 images to normalised ones, in one pass over them."""
    dtype = _DTYPES[options.dtype]
    mean, std = (MEAN, STD) if options.normalize == "standard" else (0.0, 1.0)
    scale, shift = 1 / (255 * std), torch.tensor(-mean / std)

    def normalize(images: torch.Tensor) -> torch.Tensor:
        # shift + scale * images, with the conversion from uint8 inside the same kernel
        return torch.add(shift, images, alpha=scale).to(dtype)

    return normalize


def _tensor_data(options: DataOptions, arrays: Arrays) -> TensorData:
    labels = arrays.labels
    if options.one_hot:
        labels = torch.eye(CLASSES, dtype=_DTYPES[options.dtype])[labels]
    return TensorData(arrays.images, labels, normalizer(options), drop_last=options.drop_last)


def _loaders(context: TrialContext, options: DataOptions, train: Arrays, validation: Arrays) -> tuple[Any, Any]:
    from torch.utils.data import DataLoader
    from torchvision import transforms

    from mnist_trials.mnist.data.images import ImageDataset

    steps = [transforms.ToTensor()]
    if options.normalize == "standard":
        steps.append(transforms.Normalize((MEAN,), (STD,)))
    if options.dtype != "float32":
        steps.append(transforms.ConvertImageDtype(_DTYPES[options.dtype]))
    vectors = partial(getitem, torch.eye(CLASSES, dtype=_DTYPES[options.dtype])) if options.one_hot else None

    def loader(arrays: Arrays, *, training: bool) -> DataLoader[Any]:
        return DataLoader(
            ImageDataset(arrays, transforms.Compose(steps), vectors),
            batch_size=context.per_slot_batch_size,
            shuffle=training,
            drop_last=training and options.drop_last,
            num_workers=options.num_workers,
            persistent_workers=options.num_workers > 0,
        )

    return loader(train, training=True), loader(validation, training=False)


def _whole_batches(arrays: Arrays, batch_size: int) -> Arrays:
    count = len(arrays) // batch_size * batch_size
    if count == 0:
        raise DataError(
            f"data.drop_last leaves nothing to validate on: {len(arrays)} images do not fill one batch of {batch_size}."
        )
    return Arrays(arrays.images[:count], arrays.labels[:count])


def _home() -> Path:
    return Path(os.environ.get("MNIST_TRIALS_HOME") or "~/.mnist-trials").expanduser()
