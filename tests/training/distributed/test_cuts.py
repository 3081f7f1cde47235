"""How data is split over ranks: every sample once per pass, and as many batches on every rank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset, IterableDataset
from torch.utils.data.distributed import DistributedSampler

import mnist_trials as mt
from mnist_trials.plugin import Execution
from mnist_trials.training.data.cuts import Cut, DataRank, Part, make_cut
from mnist_trials.training.data.datasets import make_feed
from mnist_trials.training.data.feeds import Feed, ForeignFeed, LoaderFeed, TensorFeed
from mnist_trials.training.data.loaders import is_plain, shuffles
from tests.training.lab import Lab

SAMPLES = st.integers(1, 200)
SIZES = st.integers(1, 17)
RANKS = st.integers(1, 4)


def cuts(samples: int, size: int, ranks: int, *, training: bool, drop_last: bool = False) -> list[Cut]:
    return [
        make_cut(samples, size, DataRank(rank, ranks), training=training, drop_last=drop_last) for rank in range(ranks)
    ]


def rounds(made: Sequence[Cut], skip: int = 0) -> list[tuple[Part, ...]]:
    """The parts of all ranks, batch by batch."""
    return list(zip(*(cut.parts(skip) for cut in made), strict=True))


@given(SAMPLES, SIZES, RANKS, st.booleans(), st.data())
def test_every_training_sample_counts_once_on_one_rank(
    samples: int, size: int, ranks: int, drop_last: bool, data: st.DataObject
) -> None:
    made = cuts(samples, size, ranks, training=True, drop_last=drop_last)
    batches = rounds(made)
    counted: list[int] = []
    for parts in batches:
        wholes = {whole for *_, whole in parts}
        assert wholes == {sum(count for _, _, count, _ in parts)}
        for start, end, count, _ in parts:
            assert end - start >= 1
            assert count in (end - start, 0)
            counted += range(start, start + count)
    used = samples // (size * ranks) * (size * ranks) if drop_last else samples
    assert counted == list(range(used))
    assert {(cut.batches, cut.samples, cut.largest) for cut in made} == {(len(batches), used, size * ranks)}
    skip = data.draw(st.integers(0, len(batches)))
    assert rounds(made, skip) == batches[skip:]


@given(SAMPLES, SIZES, RANKS)
def test_a_full_batch_is_split_evenly_and_a_short_one_nearly_so(samples: int, size: int, ranks: int) -> None:
    *full, last = rounds(cuts(samples, size, ranks, training=True))
    assert all(count == size for parts in full for _, _, count, _ in parts)
    counts = [count for _, _, count, _ in last]
    assert max(counts) - min(counts) <= 1
    if sum(counts) < ranks:  # a rank for which none is left reads one that does not count
        assert all(end - start == 1 for start, end, _, _ in last)


@given(SAMPLES, SIZES, RANKS)
def test_every_validation_sample_counts_once_and_no_batch_is_empty(samples: int, size: int, ranks: int) -> None:
    if samples < ranks:
        with pytest.raises(ValueError, match=f"{samples} samples for {ranks} ranks"):
            cuts(samples, size, ranks, training=False)
        return
    made = cuts(samples, size, ranks, training=False)
    batches = rounds(made)
    assert len(batches) == made[0].batches
    rows = [[row for start, end, _, _ in cut.parts(0) for row in range(start, end)] for cut in made]
    assert [row for own in rows for row in own] == list(range(samples))  # one contiguous chunk after another
    assert max(map(len, rows)) - min(map(len, rows)) <= 1
    for parts in batches:
        assert {whole for *_, whole in parts} == {sum(count for _, _, count, _ in parts)}
        assert all(count == end - start >= 1 for start, end, count, _ in parts)
    counts = [[count for _, _, count, _ in cut.parts(0)] for cut in made]
    if ranks > 1:
        assert all(max(own) - min(own) <= 1 for own in counts)
    if size > 1:
        assert max(map(max, counts)) <= size


class Items(Dataset[Any]):
    """Samples that tell a random number with them."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        return torch.tensor(index), torch.rand(())


class Stream(IterableDataset[Any]):
    def __init__(self, count: int) -> None:
        self.count = count

    def __iter__(self) -> Any:
        yield from (torch.tensor(index) for index in range(self.count))


@pytest.fixture
def execution(lab: Lab) -> Execution:
    return lab.context().execution


def tensor_feed(count: int, where: DataRank, execution: Execution) -> Feed:
    cut = make_cut(count, 4, where, training=True, drop_last=False)
    return TensorFeed(
        mt.TensorData(torch.arange(count), torch.arange(count)), cut, training=True, seed=1, execution=execution
    )


def loader_feed(count: int, where: DataRank, execution: Execution) -> Feed:
    cut = make_cut(count, 4, where, training=True, drop_last=False)
    return LoaderFeed(DataLoader(Items(count), 4), cut, where, shuffle=True, seed=1, execution=execution)


def foreign_feed(count: int, where: DataRank, execution: Execution) -> Feed:
    return ForeignFeed(DataLoader(Stream(count), 4), where, seed=1, execution=execution)


@pytest.mark.parametrize("make", [tensor_feed, loader_feed, foreign_feed])
@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
@pytest.mark.parametrize("count", [1, 9, 24, 37])
def test_every_kind_of_feed_gives_each_sample_to_one_rank(
    execution: Execution, make: Any, ranks: int, count: int
) -> None:
    feeds = [make(count, DataRank(rank, ranks), execution) for rank in range(ranks)]
    seen: list[int] = []
    batches = list(zip(*(feed.open(1, 0) for feed in feeds), strict=True))
    for shares in batches:
        assert {whole for _, _, whole in shares} == {sum(size for _, size, _ in shares)}
        seen += [n for batch, size, _ in shares for n in first_of(batch)[: size or 0]]
        assert all(len(first_of(batch)) == size or size == 0 for batch, size, _ in shares)
    assert sorted(seen) == list(range(count))
    assert {feed.largest_batch for feed in feeds} == {4 * ranks}
    again = [[first_of(batch) for batch, *_ in feed.open(1, 1)] for feed in feeds]
    assert again == [[first_of(shares[rank][0]) for shares in batches[1:]] for rank in range(ranks)]


def first_of(batch: Any) -> list[int]:
    tensor = batch[0] if isinstance(batch, list | tuple) else batch
    return [int(n) for n in tensor]


def test_all_ranks_together_see_the_order_of_a_single_slot_and_draw_numbers_of_their_own(execution: Execution) -> None:
    one = LoaderFeed(
        DataLoader(Items(64), 8),
        make_cut(64, 8, DataRank(), training=True, drop_last=False),
        DataRank(),
        shuffle=True,
        seed=1,
        execution=execution,
    )
    two = [loader_feed(64, DataRank(rank, 2), execution) for rank in range(2)]
    parts = zip(*(feed.open(0, 0) for feed in two), strict=True)
    drawn: list[float] = []
    for (whole, *_), shares in zip(one.open(0, 0), parts, strict=True):
        assert first_of(whole) == [n for batch, *_ in shares for n in first_of(batch)]
        drawn += [number for batch, *_ in shares for number in batch[1].tolist()]
    assert len(set(drawn)) == 64


def test_a_distributed_sampler_is_read_as_whether_to_shuffle(lab: Lab) -> None:
    for shuffle in (True, False):
        sampler = DistributedSampler(Items(20), num_replicas=4, rank=1, shuffle=shuffle)
        loader = DataLoader(Items(20), 8, sampler=sampler)
        assert is_plain(loader)
        assert shuffles(loader) is shuffle
        context = lab.context()
        feed = make_feed(loader, context, training=True)
        seen = [n for batch, *_ in feed.open(0, 0) for n in first_of(batch)]
        assert sorted(seen) == list(range(20))
        assert (seen != list(range(20))) is shuffle
        (notice,) = context.channel.events  # type: ignore[attr-defined]
        assert f"it takes shuffle={shuffle} and nothing else" in notice.message
