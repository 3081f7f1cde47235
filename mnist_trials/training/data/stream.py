"""The endless stream of training batches: pass after pass, with a position that can be saved and restored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, final

from mnist_trials.errors import DataError, TrialError
from mnist_trials.training.data.feeds import Feed, Share
from mnist_trials.training.periods import Position
from mnist_trials.units import Batch, Epoch, Unit


@final
class Stream:
    """Batches of a feed and where epochs end in it.

    An epoch is a pass over the data, or `records_per_epoch` records where that is given; passes then follow each other
    without regard to epochs.
    """

    def __init__(self, feed: Feed, records_per_epoch: int | None) -> None:
        self._feed = feed
        self._epoch_length = _epoch_length(feed, records_per_epoch)
        self._fixed_epochs = records_per_epoch is not None
        self._pass = 0
        self._taken = 0  # batches of this pass
        self._batches: Iterator[Share] | None = None
        self._last = False  # of a feed of unknown length: the batch just taken ends the pass
        self._at_start: dict[str, Any] = {}  # the feed's state when this pass began

    @property
    def feed(self) -> Feed:
        """Where the batches come from."""
        return self._feed

    @property
    def epoch_length(self) -> int | None:
        """Batches in an epoch, if that is known."""
        return self._epoch_length

    @property
    def largest_batch(self) -> int | None:
        """The number of records that no batch exceeds over all slots, if that is known."""
        return self._feed.largest_batch

    def batches_until(self, length: Unit) -> int | None:
        """How many batches have been trained when `length` is reached; None where that cannot be known before."""
        if isinstance(length, Batch):
            return length.value
        if isinstance(length, Epoch):
            return None if self._epoch_length is None else length.value * self._epoch_length
        batches, samples, largest = self._feed.length, self._feed.samples, self._feed.largest_batch
        if batches is None or samples is None or largest is None:
            return None
        passes, rest = divmod(length.value, samples)
        return passes * batches + -(-rest // largest)

    def records_after(self, count: int) -> int | None:
        """How many records the first `count` batches hold; None where that cannot be known before."""
        batches, samples, largest = self._feed.length, self._feed.samples, self._feed.largest_batch
        if batches is None or samples is None or largest is None:
            return None
        passes, rest = divmod(count, batches)
        return passes * samples + rest * largest

    def batches(self) -> Iterator[Share]:
        """The rest of the pass. Take at most `ready` batches from it, then call `advance` with how many were taken."""
        if self._batches is None:
            self._batches = self._open()
        return self._batches

    def ready(self, position: Position) -> int:
        """How many batches can be taken without a look at whether pass or epoch have ended; at least 1."""
        if self._feed.length is None:
            return 1
        left = self._feed.length - self._taken
        return min(left, self._epoch_length - position.batch_in_epoch) if self._epoch_length else left

    def advance(self, count: int, position: Position) -> bool:
        """`count` batches were taken, which `position` counts already; whether an epoch has ended."""
        self._taken += count
        length = self._feed.length
        passed = self._last if length is None else self._taken >= length
        if passed:
            self.close()
            self._pass += 1
            self._taken = 0
        return position.batch_in_epoch == self._epoch_length if self._fixed_epochs else passed

    def _open(self) -> Iterator[Share]:
        self._last = False
        if self._taken == 0:
            self._at_start = self._feed.state_dict()
        if self._feed.length is not None:
            return self._feed.open(self._pass, self._taken)
        batches = self._feed.open(self._pass, self._taken)
        first = next(batches, None)
        if first is None:
            raise DataError(
                f"The training data gave no batch in pass {self._pass + 1}."
                if self._taken == 0
                else f"The training data has only {self._taken} batches now; training cannot go on after them."
            )
        return self._look_ahead(first, batches)

    def _look_ahead(self, first: Share, batches: Iterator[Share]) -> Iterator[Share]:
        following: Share | None = first
        while following is not None:
            batch, following = following, next(batches, None)
            self._last = following is None
            yield batch

    def close(self) -> None:
        """Let go of the open pass, and of the processes that load its data."""
        close: Callable[[], None] | None = getattr(self._batches, "close", None)
        self._batches = None
        if close is not None:
            close()

    def state_dict(self) -> dict[str, Any]:
        """The position in the data."""
        feed = self._at_start if self._taken else self._feed.state_dict()
        return {
            "pass": self._pass,
            "taken": self._taken,
            "length": self._feed.length,
            "batch": self._feed.largest_batch,
            "feed": feed,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> int:
        """Go back to `state`; returns how many batches must be loaded again to be skipped.

        Raises:
            TrialError: `state` lies inside a pass over other data.
        """
        if state["taken"] and state["length"] != self._feed.length:
            raise TrialError(
                f"The checkpoint lies inside an epoch of {state['length']} batches, but the training data now gives "
                f"{self._feed.length}. Go on with the same data and batch size, or start a new training from it."
            )
        if state["taken"] and state.get("batch", self._feed.largest_batch) != self._feed.largest_batch:
            raise TrialError(
                f"The checkpoint lies inside an epoch of batches of {state['batch']} samples over all slots, but now "
                f"they have {self._feed.largest_batch}. Go on with the same batch size and as many slots that split "
                "the data, or start a new training from it."
            )
        self.close()
        self._pass, self._taken = state["pass"], state["taken"]
        self._at_start = state["feed"]
        self._feed.load_state_dict(state["feed"])
        return 0 if self._feed.length is not None else self._taken


def _epoch_length(feed: Feed, records_per_epoch: int | None) -> int | None:
    if records_per_epoch is None:
        return feed.length
    if feed.largest_batch is None:
        raise TrialError(
            f"records_per_epoch is {records_per_epoch}, but the training DataLoader does not say how large its batches "
            "are (it has a batch_sampler of its own). Leave records_per_epoch out, or give the DataLoader a batch_size."
        )
    return -(-records_per_epoch // feed.largest_batch)
