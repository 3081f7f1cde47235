"""Data of every kind, batch sizes, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
)

import mnist_trials as mt
from mnist_trials.errors import DataError, TrialError
from mnist_trials.events import Notice
from mnist_trials.training.context import TrialContext
from mnist_trials.training.data.cuts import even_share
from mnist_trials.training.data.datasets import make_feed, make_feeds
from mnist_trials.training.data.feeds import ForeignFeed, LoaderFeed, TensorFeed
from mnist_trials.training.data.filling import size_of
from tests.training.lab import Lab

X, Y = torch.arange(20.0), torch.arange(20)


class Items(Dataset[Any]):
    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> Any:
        return X[index], Y[index]


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        yield from zip(X, Y, strict=True)


class Unsized:
    pass


def numbers(feed: Any, pass_index: int = 0, skip: int = 0) -> list[list[int]]:
    return [labels.tolist() for (_, labels), _, _ in feed.open(pass_index, skip)]


def flat(batches: list[list[int]]) -> list[int]:
    return [number for batch in batches for number in batch]


KINDS: dict[str, Callable[[], Any]] = {
    "tensors": lambda: mt.TensorData(X, Y),
    "dataset": Items,
    "torch tensors": lambda: TensorDataset(X, Y),
    "loader": lambda: DataLoader(Items(), 8, shuffle=True),
    "workers": lambda: DataLoader(Items(), 8, shuffle=True, num_workers=2, persistent_workers=True),
}


@pytest.mark.parametrize("kind", KINDS)
def test_training_data_is_shuffled_by_seed_and_pass_and_can_be_opened_anywhere(lab: Lab, kind: str) -> None:
    feed = make_feed(KINDS[kind](), lab.context(), training=True)
    first, second = numbers(feed, 0), numbers(feed, 1)
    assert [len(batch) for batch in first] == [8, 8, 4]
    assert sorted(flat(first)) == sorted(flat(second)) == list(range(20))
    assert first != second
    assert numbers(feed, 0) == first
    assert numbers(feed, 1, skip=1) == second[1:]
    assert numbers(feed, 1, skip=2) == second[2:]
    assert numbers(make_feed(KINDS[kind](), lab.context(seed=99), training=True)) != first


def test_all_kinds_of_shuffled_data_come_in_the_same_order(lab: Lab) -> None:
    orders = [numbers(make_feed(make(), lab.context(), training=True)) for make in KINDS.values()]
    assert all(order == orders[0] for order in orders)


@pytest.mark.parametrize("kind", KINDS)
def test_validation_data_is_neither_shuffled_nor_cut(lab: Lab, kind: str) -> None:
    feed = make_feed(KINDS[kind](), lab.context(), training=False)
    assert flat(numbers(feed)) == list(range(20))


def test_drop_last_of_validation_data_is_not_followed_and_said(lab: Lab) -> None:
    context = lab.context()
    feed = make_feed(DataLoader(Items(), 8, drop_last=True), context, training=False)
    assert len(flat(numbers(feed))) == 20
    assert "all 20 samples are validated" in context.channel.of(Notice)[0].message  # type: ignore[attr-defined]
    feed = make_feed(mt.TensorData(X, Y, drop_last=True), context, training=False)
    assert len(flat(numbers(feed))) == 20


@pytest.mark.parametrize(
    "data", [mt.TensorData(X, Y, drop_last=True), DataLoader(Items(), 8, drop_last=True, shuffle=True)]
)
def test_drop_last_of_training_data_leaves_out_another_rest_each_time(lab: Lab, data: Any) -> None:
    feed = make_feed(data, lab.context(), training=True)
    assert feed.length == 2
    assert [len(batch) for batch in numbers(feed)] == [8, 8]
    assert len({n for p in range(5) for n in flat(numbers(feed, p))}) == 20


def test_a_loader_that_does_not_shuffle_is_read_in_order(lab: Lab) -> None:
    feed = make_feed(DataLoader(Items(), 8), lab.context(), training=True)
    assert flat(numbers(feed, 3)) == list(range(20))


@pytest.mark.parametrize(
    ("loader", "kind"),
    [
        (lambda: DataLoader(Items(), 8), LoaderFeed),
        (lambda: DataLoader(Items(), 8, sampler=RandomSampler(Items())), LoaderFeed),
        (lambda: DataLoader(Items(), 8, sampler=RandomSampler(Items(), replacement=True)), ForeignFeed),
        (lambda: DataLoader(Items(), 8, sampler=RandomSampler(Items(), num_samples=5)), ForeignFeed),
        (lambda: DataLoader(Items(), 8, sampler=[3, 1, 2]), ForeignFeed),
        (lambda: DataLoader(Items(), batch_sampler=BatchSampler(SequentialSampler(Items()), 3, False)), ForeignFeed),
        (lambda: DataLoader(Stream(), 8), ForeignFeed),
        (lambda: type("Mine", (DataLoader,), {})(Items(), 8), ForeignFeed),
        (lambda: mt.TensorData(X, Y), TensorFeed),
    ],
)
def test_only_loaders_without_a_will_of_their_own_are_rebuilt(lab: Lab, loader: Any, kind: type) -> None:
    feed = make_feed(loader(), lab.context(), training=True)
    assert isinstance(feed, kind)
    assert flat(numbers(feed))


def test_a_rebuilt_loader_keeps_collation_workers_and_their_set_up(lab: Lab) -> None:
    loader = DataLoader(Items(), 8, collate_fn=lambda rows: {"y": torch.stack([y for _, y in rows])}, num_workers=1)
    loader.worker_init_fn = _mark
    feed = make_feed(loader, lab.context(), training=True)
    assert [sorted(batch) for batch, _, _ in feed.open(0, 0)] == [["y"]] * 3
    assert [size for _, size, _ in feed.open(0, 0)] == [8, 8, 4]


def _mark(worker: int) -> None:
    info = torch.utils.data.get_worker_info()
    assert info is not None
    assert len(info.dataset) == 20  # what a worker_init_fn may look at


def test_batches_fetched_at_once_are_used_where_a_dataset_offers_them(lab: Lab) -> None:
    class AtOnce(Items):
        def __getitems__(self, indices: list[int]) -> Any:
            calls.append(len(indices))
            return [self[index] for index in indices]

    calls: list[int] = []
    numbers(make_feed(AtOnce(), lab.context(), training=True))
    assert calls == [8, 8, 4]


def test_loading_data_leaves_the_random_state_of_training_alone(lab: Lab) -> None:
    context = lab.context()
    feed = make_feed(Items(), context, training=True)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index,union-attr]
    numbers(feed)
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # type: ignore[index]


def test_a_batch_changed_in_place_leaves_the_data_as_it_is(lab: Lab) -> None:
    for training in (True, False):
        feed = make_feed(mt.TensorData(X.clone(), Y.clone()), lab.context(), training=training)
        first = numbers(feed)
        for (images, labels), _, _ in feed.open(0, 0):
            images.zero_()
            labels.zero_()
        assert numbers(feed) == first


def test_the_transform_is_given_batches_of_images(lab: Lab) -> None:
    shapes: list[Any] = []

    def transform(images: torch.Tensor) -> torch.Tensor:
        shapes.append((images.dtype, tuple(images.shape)))
        return images.float()

    data = mt.TensorData(torch.zeros(20, 4, 4, dtype=torch.uint8), Y, transform)
    numbers(make_feed(data, lab.context(), training=True))
    assert shapes == [(torch.uint8, (8, 4, 4))] * 2 + [(torch.uint8, (4, 4, 4))]


def context_of(lab: Lab, **hparams: Any) -> TrialContext:
    return lab.context(hparams)


@pytest.mark.parametrize("data", [mt.TensorData(X, Y), Items(), Stream()])
def test_data_without_a_batch_size_asks_for_one(lab: Lab, data: Any) -> None:
    with pytest.raises(TrialError, match="Add `global_batch_size: 64`"):
        make_feed(data, context_of(lab, global_batch_size=None), training=True)


def test_a_loaders_own_batch_size_counts_where_no_hyperparameter_does(lab: Lab) -> None:
    feed = make_feed(DataLoader(Items(), 5), context_of(lab, global_batch_size=None), training=True)
    assert [len(batch) for batch in numbers(feed)] == [5, 5, 5, 5]


def test_a_loader_and_a_hyperparameter_that_differ_are_an_error_with_both_numbers(lab: Lab) -> None:
    with pytest.raises(TrialError, match="batches of 5 samples, but the hyperparameters say 8"):
        make_feed(DataLoader(Items(), 5), lab.context(), training=True)
    make_feed(DataLoader(Items(), 5), lab.context(), training=False)  # validation may have its own


@pytest.mark.parametrize("value", [0, -1, 1.5, "8", True])
def test_a_batch_size_that_is_none_is_refused(lab: Lab, value: Any) -> None:
    with pytest.raises(TrialError, match="'global_batch_size' must be a whole number of at least 1"):
        context_of(lab, global_batch_size=value).per_slot_batch_size  # noqa: B018


def test_batch_size_is_another_name_and_a_contradiction_is_an_error(lab: Lab) -> None:
    assert context_of(lab, global_batch_size=None, batch_size=4).global_batch_size == 4
    assert context_of(lab, batch_size=8).global_batch_size == 8
    with pytest.raises(TrialError, match="global_batch_size 8 and batch_size 4"):
        context_of(lab, batch_size=4).global_batch_size  # noqa: B018


def test_a_batch_that_cannot_be_split_evenly_names_both_numbers(lab: Lab) -> None:
    assert lab.context().per_slot_batch_size == 8
    assert even_share(8, 4) == 2
    with pytest.raises(TrialError, match=r"8 samples cannot be split evenly over 3 slots. Use 6 or 9"):
        even_share(8, 3)


def test_a_batch_larger_than_the_data_is_said_or_an_error(lab: Lab) -> None:
    context = lab.context({"global_batch_size": 64})
    feed = make_feed(mt.TensorData(X, Y), context, training=True)
    assert [len(batch) for batch in numbers(feed)] == [20]
    assert "64 samples but the training data only 20" in context.channel.of(Notice)[0].message  # type: ignore[attr-defined]
    for data in (mt.TensorData(X, Y, drop_last=True), DataLoader(Items(), 64, drop_last=True)):
        with pytest.raises(DataError, match="20 samples, a batch 64"):
            make_feed(data, context, training=True)


def test_empty_data_sets_are_errors(lab: Lab) -> None:
    class Empty(Items):
        def __len__(self) -> int:
            return 0

    with pytest.raises(DataError, match="The training data is empty"):
        make_feed(Empty(), lab.context(), training=True)
    with pytest.raises(DataError, match="The validation data is empty"):
        make_feed(DataLoader(Empty(), 8), lab.context(), training=False)


def test_a_stream_that_gives_nothing_is_an_error(lab: Lab) -> None:
    from tests.training.lab import Small

    class Nothing(IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter(())

    class Starved(Small):
        def build_data(self) -> Any:
            return DataLoader(Nothing(), 8), mt.TensorData(X, Y)

    with pytest.raises(DataError, match="gave no batch in pass 1"):
        lab.fit(Starved)

    class Unvalidated(Small):
        def build_data(self) -> Any:
            return super().build_data()[0], DataLoader(Nothing(), 8)

    with pytest.raises(DataError, match="The validation data gave no batch"):
        lab.fit(Unvalidated)


def test_records_per_epoch_needs_a_batch_size(lab: Lab) -> None:
    from tests.training.lab import Small

    class OwnBatches(Small):
        def build_data(self) -> Any:
            sampler = BatchSampler(SequentialSampler(Items()), 3, False)
            return DataLoader(Items(), batch_sampler=sampler), DataLoader(Items(), 8)

    with pytest.raises(TrialError, match="records_per_epoch is 40"):
        lab.fit(OwnBatches, lab.context(config={"records_per_epoch": 40}))


@pytest.mark.parametrize(
    ("batch", "size"),
    [
        (torch.zeros(5, 2), 5),
        ((torch.zeros(4), torch.zeros(7)), 4),
        ({"name": ["a", "b"], "x": torch.zeros(3)}, 3),
        ([[torch.tensor(1.0), torch.zeros(6)]], 6),
        (np.zeros((9, 2)), 9),
        (["a", "b"], 2),
        (Unsized(), 1),
    ],
)
def test_the_size_of_a_batch_is_that_of_its_first_tensor(batch: Any, size: int) -> None:
    assert size_of(batch) == size


def one_loader_twice(**options: Any) -> Any:
    loader = DataLoader(Items(), batch_size=8, **options)
    return loader, loader


def test_one_loader_may_serve_training_and_validation(lab: Lab) -> None:
    training, validation = make_feeds(one_loader_twice(shuffle=True), lab.context())
    batches = training.open(0, 0)
    first = next(batches)[0][0].tolist()
    assert [size for _, size, _ in validation.open(0, 0)] == [8, 8, 4]
    rest = [x for (images, _), _, _ in batches for x in images.tolist()]
    assert sorted(first + rest) == X.tolist() != first + rest


def test_one_loader_whose_workers_serve_one_pass_at_a_time_is_refused(lab: Lab) -> None:
    own = RandomSampler(Items(), replacement=True)
    options = {"num_workers": 1, "persistent_workers": True}
    with pytest.raises(TrialError, match=r"the same DataLoader for training and validation.*Make two"):
        make_feeds(one_loader_twice(sampler=own, **options), lab.context())
    make_feeds(one_loader_twice(sampler=own), lab.context())
    make_feeds(one_loader_twice(**options), lab.context())
