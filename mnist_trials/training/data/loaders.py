"""DataLoaders whose order and random transforms are functions of (seed, pass, batch), for any number of workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, final

import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, RandomSampler, SequentialSampler
from torch.utils.data.distributed import DistributedSampler
from typing_extensions import override

from mnist_trials.training.data.cuts import Cut, DataRank
from mnist_trials.training.data.random_state import seeded
from mnist_trials.training.data.seeds import derive_seed


def order(samples: int, shuffle: bool, seed: int, pass_index: int) -> torch.Tensor:
    """The order of a data set's samples in pass `pass_index`, as indices on the CPU."""
    if not shuffle:
        return torch.arange(samples)
    generator = torch.Generator().manual_seed(derive_seed(seed, "order", pass_index))
    return torch.randperm(samples, generator=generator)


@final
@dataclass(frozen=True, slots=True)
class BatchKey:
    """Which samples make a batch, and the seed of what is random in making it."""

    seed: int
    indices: list[int]


@final
class BatchKeys:
    """One rank's batches of one pass from a given one on, as a sampler of a DataLoader that does no batching itself."""

    def __init__(self, samples: int, cut: Cut, where: DataRank, shuffle: bool, seed: int) -> None:
        self._samples = samples
        self._cut = cut
        self._where = where
        self._shuffle = shuffle
        self._seed = seed
        self.pass_index = 0
        self.skip = 0

    def __len__(self) -> int:
        return self._cut.batches - self.skip

    def __iter__(self) -> Iterator[BatchKey]:
        indices = order(self._samples, self._shuffle, self._seed, self.pass_index).tolist()
        for number, (start, end, _, _) in enumerate(self._cut.parts(self.skip), start=self.skip):
            seed = derive_seed(self._seed, "batch", self.pass_index, number, *self._where.key)
            yield BatchKey(seed, indices[start:end])


@final
class KeyedDataset(Dataset[Any]):
    """Makes whole batches of a map-style data set by their key. Has all other attributes of that data set."""

    def __init__(self, dataset: Any, collate: Callable[[list[Any]], Any]) -> None:
        self._dataset = dataset
        self._collate = collate

    @override
    def __getitem__(self, key: BatchKey) -> Any:
        with seeded(key.seed):
            fetch = getattr(self._dataset, "__getitems__", None)
            samples = fetch(key.indices) if fetch else [self._dataset[index] for index in key.indices]
            return self._collate(samples)

    def __len__(self) -> int:
        return len(self._dataset)

    def __getattr__(self, name: str) -> Any:  # a worker_init_fn may look for what the user's data set has
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._dataset, name)


def _as_it_is(batch: Any) -> Any:
    return batch


def keyed_loader(loader: DataLoader[Any], keys: BatchKeys, generator: torch.Generator) -> DataLoader[Any]:
    """`loader` with its data set, collation, workers and memory pinning, but with the batches of `keys`."""
    options: dict[str, Any] = {
        "num_workers": loader.num_workers,
        "pin_memory": loader.pin_memory,
        "timeout": loader.timeout,
        "worker_init_fn": loader.worker_init_fn,
        "multiprocessing_context": loader.multiprocessing_context,
        "prefetch_factor": loader.prefetch_factor,
        "persistent_workers": loader.persistent_workers,
    }
    if device := getattr(loader, "pin_memory_device", ""):
        options["pin_memory_device"] = device
    return DataLoader(
        KeyedDataset(loader.dataset, loader.collate_fn),
        batch_size=None,
        sampler=keys,
        collate_fn=_as_it_is,
        generator=generator,
        **options,
    )


def is_plain(loader: DataLoader[Any]) -> bool:
    """Whether `loader` batches a map-style data set in order or shuffled, with nothing of the user's own in it."""
    if type(loader) is not DataLoader or isinstance(loader.dataset, IterableDataset):
        return False
    if loader.batch_size is None or type(loader.batch_sampler) is not BatchSampler:
        return False
    sampler = loader.sampler
    if type(sampler) in (SequentialSampler, DistributedSampler):
        return True
    return (
        type(sampler) is RandomSampler and not sampler.replacement and sampler.num_samples == len(sampler.data_source)
    )


def shuffles(loader: DataLoader[Any]) -> bool:
    """Whether a plain `loader` is to be shuffled."""
    sampler = loader.sampler
    return sampler.shuffle if isinstance(sampler, DistributedSampler) else isinstance(sampler, RandomSampler)
