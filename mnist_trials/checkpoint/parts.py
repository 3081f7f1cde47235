"""What of a checkpoint lies on the ranks of a trial in parts, and how rank 0 comes by the parts of the others.

All ranks number the tensors that are spread over them, in the order of their paths. Rank 0 writes the files. For one
tensor after another it asks each rank that has a piece of it, by the tensor's number, and gets the piece; it may ask
for the same ones again, for another try. At the end it says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from operator import itemgetter
from typing import Any, Final, final

import torch

from mnist_trials.checkpoint.content import CheckpointContent
from mnist_trials.plugin import Line, Piece, Spread
from mnist_trials.testing.faults import fault_point

_END: Final = -1


def numbered(content: CheckpointContent) -> dict[str, Spread]:
    """The tensors of `content` that are spread over ranks, by path; they are numbered in this order."""
    found = [*_found(content.model, "model"), *_found(content.state, "state")]
    return dict(sorted(found, key=itemgetter(0)))


def _found(value: Any, path: str) -> Iterator[tuple[str, Spread]]:
    if isinstance(value, Spread):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _found(item, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _found(item, f"{path}.{index}")


def copied(tensor: torch.Tensor) -> torch.Tensor:
    """The values of `tensor` on the CPU, without gaps, in memory of their own."""
    return torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu").copy_(tensor)


@final
class Parts:
    """Copies of the pieces that a rank other than 0 gives, by the numbers of their tensors.

    Attributes:
        list: what there is, to be compared with what rank 0 expects (`expected`).
        nbytes: the memory that it takes.
    """

    def __init__(self, content: CheckpointContent) -> None:
        copies: dict[Any, torch.Tensor] = {}
        self._by_number: dict[int, torch.Tensor] = {}
        self.list: list[str] = []
        for number, (path, spread) in enumerate(numbered(content).items()):
            if spread.own is not None:
                where = (spread.own.device, spread.own.data_ptr(), spread.own.shape, spread.own.stride(), spread.dtype)
                if where not in copies:  # tied tensors, and those that stand in the state twice
                    copies[where] = copied(spread.own)
                self._by_number[number] = copies[where]
                self.list.append(_line(path, spread, tuple(spread.own.shape)))
        self.nbytes = sum(copy.nbytes for copy in copies.values())

    def serve(self, line: Line) -> None:
        """Give rank 0 what it asks for, until it says that this was all.

        Raises:
            RuntimeError: rank 0 has ended, or one of the two has closed its line.
        """
        asked = torch.empty((), dtype=torch.int64, device="cpu")
        while True:
            line.receive(asked, 0)
            number = int(asked)
            if number == _END:
                return
            fault_point("parts.asked")
            line.send(self._by_number[number], 0)


def expected(content: CheckpointContent, ranks: int) -> list[list[str]]:
    """What rank 0, whose `content` it is, needs of each rank; that of rank n is to be the `list` of its `Parts`."""
    lists: list[list[str]] = [[] for _ in range(ranks)]
    for path, spread in numbered(content).items():
        for piece in spread.pieces:
            lists[piece.rank].append(_line(path, spread, piece.sizes))
    return lists


def digest_of(listed: Iterable[str]) -> str:
    """Equal for equal lists."""
    return hashlib.sha256("\n".join(listed).encode("utf-8", "surrogatepass")).hexdigest()


def _line(path: str, spread: Spread, sizes: tuple[int, ...]) -> str:
    return f"{path} {spread.dtype} {sizes} of {spread.shape}"


@final
class Gathering:
    """Puts together, on rank 0, the tensors of one snapshot. To be used by one thread.

    Attributes:
        nbytes: the memory that it takes: as much as the largest tensor. A piece that is not one block there is
            received into memory of its own first.
    """

    def __init__(self, numbers: Mapping[Spread, int], line: Line | None) -> None:
        """`numbers` are those of the tensors, whose own pieces are copies already. `line` is not needed for none."""
        self._numbers = numbers
        self._line = line
        self._others = sorted({piece.rank for spread in numbers for piece in spread.pieces} - {0})
        self.nbytes = max((spread.nbytes for spread in numbers), default=0)
        self._buffer: torch.Tensor | None = None

    def whole(self, spread: Spread) -> torch.Tensor:
        """The tensor in memory that the next call overwrites.

        Raises:
            RuntimeError: a rank that has a piece of it has ended, or closed its line.
        """
        if self._buffer is None:
            self._buffer = torch.empty(self.nbytes, dtype=torch.uint8, device="cpu")
        target = self._buffer[: spread.nbytes].view(spread.dtype).view(spread.shape)
        for piece in spread.pieces:
            if piece.rank:
                self._tell(piece.rank, self._numbers[spread])
        for piece in spread.pieces:
            place = target[piece.place]
            if piece.rank == 0:
                assert spread.own is not None
                place.copy_(spread.own)
            else:
                self._receive(place, piece)
        return target

    def _receive(self, place: torch.Tensor, piece: Piece) -> None:
        assert self._line is not None
        if place.is_contiguous():
            self._line.receive(place, piece.rank)
        else:
            apart = torch.empty_like(place, memory_format=torch.contiguous_format)
            self._line.receive(apart, piece.rank)
            place.copy_(apart)

    def end(self) -> None:
        """Tell the other ranks that nothing more is asked for, and give back the memory."""
        self._buffer = None
        for rank in self._others:
            with suppress(RuntimeError):  # it has ended: then it need not be told
                self._tell(rank, _END)

    def _tell(self, rank: int, number: int) -> None:
        assert self._line is not None
        self._line.send(torch.tensor(number, dtype=torch.int64, device="cpu"), rank)
