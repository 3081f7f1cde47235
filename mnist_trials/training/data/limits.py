"""`limit_batches`: only the first batches of each pass, for a quick try of a whole experiment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from itertools import islice
from typing import Any, Literal, final

from typing_extensions import override

from mnist_trials.training.context import TrialContext
from mnist_trials.training.data.feeds import Feed, Share


def limit_of(context: TrialContext, name: Literal["training", "validation"]) -> int | None:
    """How many batches of a pass over that data the config allows; None: all."""
    limit: int | None = (context.experiment_config.get("limit_batches") or {}).get(name)
    return limit


def limited(feed: Feed, limit: int | None) -> Feed:
    """The first `limit` batches of each pass over `feed`; None: all."""
    return feed if limit is None else LimitedFeed(feed, limit)


@final
class LimitedFeed(Feed):
    """The first `limit` batches of every pass over `feed`, in the order of that pass; all, where it has fewer."""

    def __init__(self, feed: Feed, limit: int) -> None:
        self._feed = feed
        self._limit = limit

    @property
    @override
    def length(self) -> int | None:
        length = self._feed.length
        return None if length is None else min(length, self._limit)

    @property
    @override
    def largest_batch(self) -> int | None:
        return self._feed.largest_batch

    @property
    @override
    def samples(self) -> int | None:
        samples, length, largest = self._feed.samples, self._feed.length, self._feed.largest_batch
        if samples is None or length is None or largest is None:
            return None
        return samples if length <= self._limit else self._limit * largest  # only the last batch may be smaller

    @override
    def open(self, pass_index: int, skip: int) -> Iterator[Share]:
        batches: Any = self._feed.open(pass_index, skip)
        with closing(batches):  # a loader may have processes
            yield from islice(batches, max(self._limit - skip, 0))

    @override
    def state_dict(self) -> dict[str, Any]:
        return self._feed.state_dict()

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._feed.load_state_dict(state)
