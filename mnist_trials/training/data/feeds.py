"""Feeds: the batches of a data set on the device, pass after pass."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from itertools import count, islice
from typing import Any, final

import torch
from torch.utils.data import DataLoader
from typing_extensions import override

from mnist_trials.plugin import Execution, Rows
from mnist_trials.training.data.cuts import Cut, DataRank
from mnist_trials.training.data.filling import fill, filled_rows, size_of
from mnist_trials.training.data.loaders import BatchKeys, keyed_loader, order
from mnist_trials.training.data.random_state import seeded
from mnist_trials.training.data.seeds import derive_seed
from mnist_trials.training.data.tensors import TensorData

Share = tuple[Any, int, int]
"""What one data rank has of a batch, how many samples of it count here, and how many the batch has over all data ranks.
Where no sample is left for a rank it is given one that counts nothing (0), so that all ranks take as many steps."""


class Feed(ABC):
    """Gives the batches of any pass over a data set, from any batch on; the same number on every data rank."""

    @property
    @abstractmethod
    def length(self) -> int | None:
        """Batches in a pass; None where that shows only when it ends."""

    @property
    @abstractmethod
    def largest_batch(self) -> int | None:
        """The number of samples that no batch exceeds over all data ranks, if that is known."""

    @property
    @abstractmethod
    def samples(self) -> int | None:
        """The number of samples in all batches of a pass, over all data ranks; None where only its end shows it."""

    @abstractmethod
    def open(self, pass_index: int, skip: int) -> Iterator[Share]:
        """This data rank's shares of the batches of pass `pass_index` after the first `skip`."""

    def state_dict(self) -> dict[str, Any]:
        """Between two passes: what, besides its number, the next one depends on."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to `state`."""


class CutFeed(Feed):
    """Batches that are known beforehand, by number and size."""

    def __init__(self, cut: Cut) -> None:
        self._cut = cut

    @property
    @override
    def length(self) -> int:
        return self._cut.batches

    @property
    @override
    def largest_batch(self) -> int:
        return self._cut.largest

    @property
    @override
    def samples(self) -> int:
        return self._cut.samples


@final
class TensorFeed(CutFeed):
    """Gathers batches of a TensorData on the device."""

    def __init__(self, data: TensorData, cut: Cut, *, training: bool, seed: int, execution: Execution) -> None:
        """Training data is shuffled; other data is not."""
        super().__init__(cut)
        self._tables = data.images.to(execution.device), data.labels.to(execution.device)
        self._transform = data.transform
        self._shuffle = training
        self._seed = seed
        self._execution = execution

    @override
    def open(self, pass_index: int, skip: int) -> Iterator[Share]:
        (images, labels), transform = self._tables, self._transform
        to_device = self._execution.to_device
        rows = order(len(images), self._shuffle, self._seed, pass_index)
        if self._execution.static_shapes:
            yield from self._filled(rows, skip)
            return
        rows = rows.to(images.device)
        if transform is None and self._execution.takes_rows:
            for start, end, size, whole in self._cut.parts(skip):
                yield to_device(Rows(self._tables, rows[start:end])), size, whole
            return
        for start, end, size, whole in self._cut.parts(skip):
            chosen = rows[start:end]
            # index_select copies in every case, so that a batch changed in place leaves the data as it is
            x = images.index_select(0, chosen)
            yield to_device((x if transform is None else transform(x), labels.index_select(0, chosen))), size, whole

    def _filled(self, rows: torch.Tensor, skip: int) -> Iterator[Share]:
        """As `open`, where each of the device's programs is for one size of a batch, and for given places in a tensor.

        So row numbers are brought to the device batch by batch: parts of an order that lies there are programs each.
        """
        (images, labels), transform = self._tables, self._transform
        to_device = self._execution.to_device
        for start, end, size, whole in self._cut.parts(skip):
            chosen = to_device(filled_rows(rows[start:end], self._cut.largest))
            x = images.index_select(0, chosen)
            yield to_device((x if transform is None else transform(x), labels.index_select(0, chosen))), size, whole


@final
class LoaderFeed(CutFeed):
    """Batches of a plain DataLoader, in an order and with random numbers of our own."""

    def __init__(
        self, loader: DataLoader[Any], cut: Cut, where: DataRank, *, shuffle: bool, seed: int, execution: Execution
    ) -> None:
        super().__init__(cut)
        samples = len(loader.dataset)  # type: ignore[arg-type]
        self._keys = BatchKeys(samples, cut, where, shuffle, seed)
        self._generator = torch.Generator()
        self._loader = keyed_loader(loader, self._keys, self._generator)
        self._where = where
        self._seed = seed
        self._execution = execution

    @override
    def open(self, pass_index: int, skip: int) -> Iterator[Share]:
        self._keys.pass_index, self._keys.skip = pass_index, skip
        self._generator.manual_seed(derive_seed(self._seed, "workers", pass_index, *self._where.key))
        to_device, fills = self._execution.to_device, self._execution.static_shapes
        if self._where.of == 1:
            for batch in self._loader:
                size = size_of(batch)  # a collation may have left samples out
                yield to_device(fill(batch, self._cut.largest) if fills else batch), size, size
            return
        for batch, (_, _, size, whole) in zip(self._loader, self._cut.parts(skip), strict=True):
            yield to_device(batch), size, whole


@final
class ForeignFeed(Feed):
    """Batches of a DataLoader with a sampler or data set that only its owner understands, just as they come.

    Every data rank reads all of them, and of each round of as many as there are ranks it takes its own. An incomplete
    last round is filled with batches that count nothing.

    What is random in this process while a batch is made is a function of (seed, pass, batch), the same on every rank;
    generators of the samplers' own go on from pass to pass and are part of the state.
    """

    def __init__(self, loader: DataLoader[Any], where: DataRank, *, seed: int, execution: Execution) -> None:
        self._loader = loader
        self._where = where
        self._seed = seed
        self._execution = execution
        parts = (loader, loader.sampler, loader.batch_sampler, getattr(loader.batch_sampler, "sampler", None))
        owned = [getattr(part, "generator", None) for part in parts]
        self._generators = [generator for generator in owned if isinstance(generator, torch.Generator)]

    @property
    @override
    def length(self) -> None:
        return None  # what such a loader says of its length need not be true

    @property
    @override
    def largest_batch(self) -> int | None:
        return None if self._loader.batch_size is None else self._loader.batch_size * self._where.of

    @property
    @override
    def samples(self) -> None:
        return None

    @override
    def open(self, pass_index: int, skip: int) -> Iterator[Share]:
        rank, of = self._where.rank, self._where.of
        to_device = self._execution.to_device
        full = self._loader.batch_size if self._execution.static_shapes else None
        batches = islice(self._read(pass_index), skip * of, None)
        while given := list(islice(batches, of)):
            sizes = [size_of(batch) for batch in given]
            own = rank if rank < len(given) else 0
            batch = fill(given[own], full) if full is not None else given[own]
            yield to_device(batch), sizes[rank] if own == rank else 0, sum(sizes)

    def _read(self, pass_index: int) -> Iterator[Any]:
        for part in (self._loader.sampler, self._loader.batch_sampler, self._loader.dataset):
            if callable(set_epoch := getattr(part, "set_epoch", None)):
                set_epoch(pass_index)
        with seeded(derive_seed(self._seed, "pass", pass_index)):
            batches = iter(self._loader)
        for number in count():
            with seeded(derive_seed(self._seed, "batch", pass_index, number)):
                batch = next(batches, _END)
            if batch is _END:
                return
            yield batch

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"generators": [generator.get_state() for generator in self._generators]}

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for generator, saved in zip(self._generators, state["generators"], strict=False):
            generator.set_state(saved)


_END = object()
