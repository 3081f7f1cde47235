"""Histograms of tensors, computed where they lie and read with one wait."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
import torch

from mnist_trials.plugin import Ranks, Spread
from mnist_trials.records import Histogram

BINS: Final = 100

_SPAN: Final = 5  # size, how many are not finite, minimum, maximum, sum
_SHAPE: Final = 1 + BINS  # sum of squares about the mean, counts of the bins


def histograms_of(arrays: Iterable[tuple[str, str, Any]], ranks: Ranks) -> tuple[Histogram, ...]:
    """The histograms of (kind, name, tensor, Spread or array of another framework).

    Tensors lie on one device, for which it waits once; arrays are brought to the CPU first. Of a Spread each rank
    counts its own part. A collective where there are several ranks: the same arrays in the same order on each.
    """
    labels: list[tuple[str, str]] = []
    values: list[torch.Tensor] = []
    givers: list[tuple[int, ...]] = []
    for kind, name, array in arrays:
        own, of = _own_part(array, ranks.layout.rank)
        labels.append((kind, name))
        values.append(own)
        givers.append(of)
    if not labels:
        return ()
    if ranks.layout.size == 1:
        rows = [torch.cat([span := _span(value), _shape(value, span)]) for value in values]
        read = _read(rows)
    else:
        spans = _joined_spans(ranks.gather(_read([_span(value) for value in values])), givers)
        shapes = [_shape(value, span.to(value.device)) for value, span in zip(values, spans, strict=True)]
        read = torch.cat([spans, _summed(ranks.gather(_read(shapes)), givers)], dim=1)
    return tuple(_histogram(kind, name, row) for (kind, name), row in zip(labels, read.tolist(), strict=True))


def _own_part(array: Any, rank: int) -> tuple[torch.Tensor, tuple[int, ...]]:
    """What `rank` counts of `array`, as a plain vector of real numbers, and the ranks that count the whole together."""
    if isinstance(array, Spread):
        givers = tuple(piece.rank for piece in array.pieces)
        return (_vector(array.own) if array.own is not None else torch.empty(0)), givers
    if not isinstance(array, torch.Tensor):
        array = torch.from_numpy(np.array(array, dtype=np.float32))
    return (_vector(array) if rank == 0 else torch.empty(0)), (0,)


def _vector(tensor: torch.Tensor) -> torch.Tensor:
    tensor = tensor.detach()
    if tensor.is_sparse:
        tensor = tensor.to_dense()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    return tensor.reshape(-1).to(torch.float64 if tensor.dtype is torch.float64 else torch.float32)


def _read(rows: Sequence[torch.Tensor]) -> torch.Tensor:
    """`rows`, one below the other, on the CPU."""
    device = next((row.device for row in rows if row.device.type != "cpu"), rows[0].device)
    return torch.cat([row.to(device) for row in rows]).cpu().reshape(len(rows), -1)


def _span(values: torch.Tensor) -> torch.Tensor:
    """Float64, by operations whose shapes do not depend on the values, as is `_shape`."""
    finite = torch.isfinite(values)
    size = torch.full((), values.numel(), dtype=torch.float64, device=values.device)
    low, high = _end(values, finite, math.inf).min(), _end(values, finite, -math.inf).max()
    total = torch.where(finite, values, 0.0).sum(dtype=torch.float64)
    return torch.stack([size, size - finite.sum(), low.double(), high.double(), total])


def _end(values: torch.Tensor, finite: torch.Tensor, without: float) -> torch.Tensor:
    """What to look for an end in; `without` is there for what is not finite, and where there is nothing at all."""
    return torch.cat([torch.where(finite, values, without), values.new_full((1,), without)])


def _shape(values: torch.Tensor, span: torch.Tensor) -> torch.Tensor:
    """How `values`, of which `span` is known, lie about their mean and in bins; the last bin has its upper end."""
    size, not_finite, low, high, total = span
    finite = torch.isfinite(values)
    squares = torch.where(finite, values.double() - total / (size - not_finite), 0.0).square().sum()
    halves, start, width = values * 0.5, low * 0.5, high * 0.5 - low * 0.5  # no difference of halves overflows
    same = width.to(values.dtype) == 0  # all alike, or nearer to each other than can be told apart
    start, width = torch.where(same, start - 0.25, start), torch.where(same, 0.5, width)
    place = (halves - start.to(values.dtype)) / width.to(values.dtype) * BINS
    bins = torch.where(finite, place, 0.0).clamp(0, BINS - 1).long()
    counts = torch.zeros(BINS, dtype=torch.int64, device=values.device).scatter_add(0, bins, finite.long())
    return torch.cat([squares.reshape(1), counts.double()])


def _joined_spans(every: Sequence[torch.Tensor], givers: Sequence[Sequence[int]]) -> torch.Tensor:
    """One span for each array, out of those of its parts; `every` has those of all arrays, by rank."""
    rows = []
    for index, of in enumerate(givers):
        parts = torch.stack([every[rank][index] for rank in of])
        total = parts.sum(dim=0)
        rows.append(torch.stack([total[0], total[1], parts[:, 2].min(), parts[:, 3].max(), total[4]]))
    return torch.stack(rows)


def _summed(every: Sequence[torch.Tensor], givers: Sequence[Sequence[int]]) -> torch.Tensor:
    return torch.stack([sum((every[rank][i] for rank in of), torch.zeros(_SHAPE)) for i, of in enumerate(givers)])


def _histogram(kind: str, name: str, row: list[float]) -> Histogram:
    size, not_finite, low, high, total = row[:_SPAN]
    number = size - not_finite
    mean, variance = (total / number, row[_SPAN] / number) if number else (math.nan, math.nan)
    return Histogram(
        kind=kind,
        name=name,
        size=int(size),
        not_finite=int(not_finite),
        minimum=_or_none(low),
        maximum=_or_none(high),
        mean=_or_none(mean),
        std=_or_none(variance**0.5),
        counts=tuple(map(int, row[_SPAN + 1 :])),
    )


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
