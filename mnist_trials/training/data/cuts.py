"""How the batches of a data set are cut over the data ranks of a trial: pure arithmetic on row numbers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

from typing_extensions import override

from mnist_trials.errors import TrialError

Part = tuple[int, int, int, int]
"""Of one batch: first row and end of the rows that this rank reads, how many of them count, and how many samples the
batch has over all ranks. A rank for which no sample is left reads the batch's first one, and none counts."""


def even_share(batch_size: int, slots: int) -> int:
    """The share of each of `slots` slots of a batch.

    Raises:
        TrialError: it cannot be split evenly.
    """
    share, rest = divmod(batch_size, slots)
    if rest:
        raise TrialError(
            f"A global batch of {batch_size} samples cannot be split evenly over {slots} slots. "
            f"Use {share * slots or slots} or {(share + 1) * slots}."
        )
    return share


@final
@dataclass(frozen=True, slots=True)
class DataRank:
    """Which of how many data ranks this process is."""

    rank: int = 0
    of: int = 1

    @property
    def key(self) -> tuple[int, ...]:
        """What tells the random numbers of this rank from those of the others; nothing where there are no others."""
        return () if self.of == 1 else (self.rank,)

    def within(self, samples: int) -> tuple[int, int]:
        """First and end of this rank's contiguous part of `samples`. Sizes differ by at most 1; the first have more."""
        share, rest = divmod(samples, self.of)
        start = self.rank * share + min(self.rank, rest)
        return start, start + share + (self.rank < rest)


class Cut(ABC):
    """The batches of one pass over a data set, as rows in the order of that pass.

    Attributes:
        batches: how many there are, the same on every rank.
        samples: how many samples they have over all ranks; each is counted once, on one rank.
        largest: how many samples no batch exceeds, over all ranks.
    """

    batches: int
    samples: int
    largest: int

    @abstractmethod
    def parts(self, skip: int) -> Iterator[Part]:
        """This rank's parts of all batches after the first `skip`."""


@final
class EqualBatches(Cut):
    """Every batch has as many samples on each rank as on any other, but for a short last one."""

    def __init__(self, samples: int, per_slot: int, where: DataRank, *, drop_last: bool) -> None:
        self._per_slot = per_slot
        self.largest = per_slot * where.of
        self._where = where
        self._full, self._rest = divmod(samples, self.largest)
        self._rest *= not drop_last
        self.batches = self._full + (self._rest > 0)
        self.samples = self._full * self.largest + self._rest

    @override
    def parts(self, skip: int) -> Iterator[Part]:
        whole, size = self.largest, self._per_slot
        offset = self._where.rank * size
        for start in range(skip * whole + offset, self._full * whole, whole):
            yield start, start + size, size, whole
        if self._rest and skip < self.batches:
            yield self._short()

    def _short(self) -> Part:
        first = self._full * self.largest
        start, end = self._where.within(self._rest)
        if start == end:
            return first, first + 1, 0, self._rest
        return first + start, first + end, end - start, self._rest


@final
class EqualChunks(Cut):
    """Every rank has a contiguous chunk of the samples, cut into as many batches as on any other rank.

    Sizes of chunks differ by at most 1, and those of the batches of a chunk too. A batch has at most `per_slot`
    samples, unless that would leave a rank without any.

    Raises:
        ValueError: there are fewer samples than ranks.
    """

    def __init__(self, samples: int, per_slot: int, where: DataRank) -> None:
        if samples < where.of:
            raise ValueError(f"{samples} samples for {where.of} ranks")
        smallest, largest = samples // where.of, -(-samples // where.of)
        self._ranks = [DataRank(rank, where.of).within(samples) for rank in range(where.of)]
        self._own = self._ranks[where.rank]
        self.batches = min(-(-largest // per_slot), smallest)
        self.samples = samples
        self.largest = next(self.parts(0))[3]

    @override
    def parts(self, skip: int) -> Iterator[Part]:
        first, end = self._own
        for number in range(skip, self.batches):
            piece = DataRank(number, self.batches)
            start, stop = piece.within(end - first)
            yield first + start, first + stop, stop - start, sum(_width(piece, *chunk) for chunk in self._ranks)


def _width(piece: DataRank, first: int, end: int) -> int:
    start, stop = piece.within(end - first)
    return stop - start


def make_cut(samples: int, per_slot: int, where: DataRank, *, training: bool, drop_last: bool) -> Cut:
    """How a data set is cut. Only training data may lose its short last batch."""
    if training or where.of == 1:
        return EqualBatches(samples, per_slot, where, drop_last=training and drop_last)
    return EqualChunks(samples, per_slot, where)
