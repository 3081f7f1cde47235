"""From what `build_data` returned to feeds: kinds of data, batch sizes, and what is wrong with them."""

from __future__ import annotations

from typing import Any, Literal

from torch.utils.data import DataLoader, Dataset, IterableDataset
from torch.utils.data.distributed import DistributedSampler

from mnist_trials.errors import DataError, TrialError
from mnist_trials.training.context import TrialContext
from mnist_trials.training.data.cuts import Cut, make_cut
from mnist_trials.training.data.feeds import Feed, ForeignFeed, LoaderFeed, TensorFeed
from mnist_trials.training.data.limits import limit_of, limited
from mnist_trials.training.data.loaders import is_plain, shuffles
from mnist_trials.training.data.seeds import derive_seed
from mnist_trials.training.data.tensors import TensorData
from mnist_trials.training.trial import Trial


def make_feeds(built: object, context: TrialContext) -> tuple[Feed, Feed]:
    """The training and the validation feed of what `build_data` returned.

    Raises:
        TrialError: it is no pair of data sets, or the batch size is not clear.
        DataError: a data set is empty, or too small for one batch.
    """
    training, validation = pair_of(built)
    shared = training is validation and isinstance(training, DataLoader) and not is_plain(training)
    if shared and getattr(training, "persistent_workers", False):
        raise TrialError(
            "build_data returned the same DataLoader for training and validation. Its persistent workers serve one "
            "pass at a time, so a validation would cut off the epoch it comes in. Make two DataLoaders."
        )
    return make_feed(training, context, training=True), make_feed(validation, context, training=False)


def feed_to_test(trial: Trial, context: TrialContext) -> Feed | None:
    """The feed to test the best checkpoint on; None where the hyperparameter `run_test` does not ask for that.

    Raises:
        TrialError: the hyperparameter is neither true nor false, or the trial has no test data.
    """
    wanted = context.hparams.get("run_test", False)
    if not isinstance(wanted, bool):
        raise TrialError(f"The hyperparameter 'run_test' is true or false, not {wanted!r}.")
    return make_feed(data_to_test(trial), context, training=False) if wanted else None


def data_to_test(trial: Trial) -> object:
    """What `trial` has to be tested on.

    Raises:
        TrialError: it has nothing.
    """
    if (data := trial.build_test_data()) is None:
        raise TrialError(
            f"{type(trial).__qualname__} has no test data: write build_test_data(), which returns it as build_data() "
            "returns the validation data; or evaluate on the validation data."
        )
    return data


def pair_of(built: object) -> tuple[object, object]:
    """Training and validation data as `build_data` returned them.

    Raises:
        TrialError: it returned something else than two data sets.
    """
    if not isinstance(built, list | tuple) or len(built) != 2:
        what = f"{len(built)} things" if isinstance(built, list | tuple) else type(built).__name__
        raise TrialError(f"build_data must return two data sets, (training, validation); it returned {what}.")
    return built[0], built[1]


def make_feed(data: object, context: TrialContext, *, training: bool) -> Feed:
    """The feed of one data set: a TensorData, a DataLoader, or a Dataset; as long as `limit_batches` allows."""
    name: Literal["training", "validation"] = "training" if training else "validation"
    return limited(_feed_of(data, name, context, training), limit_of(context, name))


def _feed_of(data: object, name: str, context: TrialContext, training: bool) -> Feed:
    seed = derive_seed(context.seed, name)
    if isinstance(data, TensorData):
        cut = _cut(len(data), context.per_slot_batch_size, data.drop_last, context, training)
        return TensorFeed(data, cut, training=training, seed=seed, execution=context.execution)
    if isinstance(data, DataLoader):
        return _loader_feed(data, context, training, shuffles(data), seed)
    if isinstance(data, IterableDataset):
        return _loader_feed(DataLoader(data, context.per_slot_batch_size), context, training, False, seed)
    if isinstance(data, Dataset) or (hasattr(data, "__getitem__") and hasattr(data, "__len__")):
        if isinstance(data, list | tuple | dict | str):
            raise _unknown(data, name)
        _require_samples(len(data), name)
        loader: DataLoader[Any] = DataLoader(
            data,  # type: ignore[arg-type]
            context.per_slot_batch_size,
            pin_memory=context.device.type == "cuda",
        )
        return _loader_feed(loader, context, training, training, seed)
    raise _unknown(data, name)


def _unknown(data: object, name: str) -> TrialError:
    return TrialError(
        f"build_data returned {type(data).__name__} as {name} data. It must be a torch Dataset, a torch DataLoader, or "
        "mt.TensorData(images, labels)."
    )


def _loader_feed(loader: DataLoader[Any], context: TrialContext, training: bool, shuffle: bool, seed: int) -> Feed:
    plain = is_plain(loader)
    size = _loader_batch_size(loader, context, training, plain)
    if not plain:
        _tell_how_it_is_split(context)
        return ForeignFeed(loader, context.data_rank, seed=seed, execution=context.execution)
    assert size is not None
    samples = len(loader.dataset)  # type: ignore[arg-type]
    if isinstance(loader.sampler, DistributedSampler):
        context.notice(
            "A DataLoader has a DistributedSampler. The runtime splits the data over the slots itself: of the sampler "
            f"it takes shuffle={loader.sampler.shuffle} and nothing else."
        )
    cut = _cut(samples, size, loader.drop_last, context, training)
    if loader.drop_last and not training and samples % size:
        context.notice(
            f"The validation DataLoader has drop_last=True; all {samples} samples are validated on all the same."
        )
    return LoaderFeed(
        loader, cut, context.data_rank, shuffle=training and shuffle, seed=seed, execution=context.execution
    )


def _tell_how_it_is_split(context: TrialContext) -> None:
    slots = context.data_rank.of
    if slots > 1:
        context.notice(
            f"A DataLoader has a sampler or data set of its own, so each of the {slots} slots that split the data "
            f"reads all of it and takes one of every {slots} batches. Where the last round of them is incomplete, "
            "slots without a batch are given one that counts nothing."
        )


def _loader_batch_size(loader: DataLoader[Any], context: TrialContext, training: bool, plain: bool) -> int | None:
    """Samples per batch on each slot."""
    own = loader.batch_size
    wanted = context.hparam_batch_size
    if own is None or wanted is None or not training:
        return own
    share = context.split(wanted)
    if own not in ((wanted, share) if plain else (share,)):
        raise TrialError(
            f"The training DataLoader makes batches of {own} samples, but the hyperparameters say {wanted}"
            f"{'' if share == wanted else f', which is {share} on each slot'}. Make it with "
            "batch_size=self.context.per_slot_batch_size, or leave the hyperparameter out."
        )
    return share


def _cut(samples: int, per_slot: int, drop_last: bool, context: TrialContext, training: bool) -> Cut:
    _require_samples(samples, "training" if training else "validation")
    where = context.data_rank
    limit = None if training else limit_of(context, "validation")
    if limit is not None:  # the same samples on any number of slots
        samples = min(samples, limit * per_slot * where.of)
    if training:
        _check_size(samples, per_slot * where.of, drop_last, context)
    elif samples < where.of:
        raise DataError(
            f"The validation data has {samples} samples for {where.of} slots that split it: each needs one at least. "
            "Use fewer slots, or more data."
        )
    return make_cut(samples, per_slot, where, training=training, drop_last=drop_last)


def _check_size(samples: int, batch_size: int, drop_last: bool, context: TrialContext) -> None:
    if samples >= batch_size:
        return
    if drop_last:
        raise DataError(
            f"The training data has {samples} samples, a batch {batch_size}, and drop_last leaves out short batches: "
            "there is nothing to train on. Use a smaller batch, or drop_last=False."
        )
    context.notice(f"A batch has {batch_size} samples but the training data only {samples}: every batch is short.")


def _require_samples(samples: int, name: str) -> None:
    if samples == 0:
        raise DataError(f"The {name} data is empty.")
