"""Histograms are those that numpy makes, whatever the tensor, and however it is spread over ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mnist_trials.plugin import Alone, Piece, Ranks, Spread
from mnist_trials.records import Histogram
from mnist_trials.training.measures.histograms import BINS, histograms_of
from tests.training.distributed.threads import on_ranks


def of(array: Any, ranks: Ranks | None = None) -> Histogram:
    (found,) = histograms_of([("parameters", "weight", array)], ranks or Alone())
    return found


NUMBERS = st.floats(width=32, allow_nan=True, allow_infinity=True)


@settings(max_examples=200, deadline=None)
@given(st.lists(NUMBERS, max_size=40))
@example([0.0, 2.0**-149])  # nearer to each other than a bin can be told from none
def test_facts_are_those_of_the_finite_elements(numbers: list[float]) -> None:
    found = of(torch.tensor(numbers, dtype=torch.float32))
    finite = np.array([number for number in numbers if np.isfinite(number)], dtype=np.float64)
    assert (found.size, found.not_finite, sum(found.counts)) == (len(numbers), len(numbers) - len(finite), len(finite))
    if len(finite):
        assert (found.minimum, found.maximum) == (finite.min(), finite.max())
        largest = float(np.abs(finite).max())
        assert found.mean == pytest.approx(finite.mean(), rel=1e-9, abs=1e-9 * largest)
        assert found.std == pytest.approx(finite.std(), rel=1e-6, abs=1e-9 * largest)
    else:
        assert (found.minimum, found.maximum, found.mean, found.std) == (None, None, None, None)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_bins_are_those_of_numpy(scale: float) -> None:
    values = torch.randn(1000, 7, generator=torch.Generator().manual_seed(0)) * scale
    found = of(values)
    counts, edges = np.histogram(values.numpy().astype(np.float64), BINS)
    assert np.abs(np.array(found.counts) - counts).sum() <= 4  # elements on an edge, but for rounding
    assert found.edges() == pytest.approx(edges.tolist())


@pytest.mark.parametrize(
    ("array", "values"),
    [
        (torch.arange(6).reshape(2, 3).bfloat16(), range(6)),
        (torch.arange(6.0).double(), range(6)),
        (torch.tensor(3.0), [3]),
        (torch.tensor([[0.0, 0.0], [5.0, 0.0]]).to_sparse(), [0, 0, 5, 0]),
        (torch.tensor([1 + 2j]), [1, 2]),
        (np.arange(6.0), range(6)),
        (torch.arange(6.0).requires_grad_(), range(6)),
        (torch.empty(0, 3), []),
    ],
    ids=["bf16", "float64", "scalar", "sparse", "complex", "numpy", "parameter", "empty"],
)
def test_every_kind_of_array_is_counted(array: Any, values: Any) -> None:
    found = of(array)
    expected = of(torch.tensor(list(values), dtype=torch.float32))
    assert found == expected
    assert found.size == len(list(values))


def test_where_all_elements_are_the_same_the_bins_lie_around_them() -> None:
    found = of(torch.full((4,), 2.5))
    assert (found.std, found.counts[BINS // 2], sum(found.counts)) == (0.0, 4, 4)
    assert (found.edges()[0], found.edges()[-1]) == (2.0, 3.0)


def test_names_and_kinds_stay_in_order() -> None:
    arrays = [("parameters", "a", torch.ones(1)), ("gradients", "a", torch.zeros(2)), ("gradients", "b", np.ones(3))]
    found = histograms_of(arrays, Alone())
    assert [(each.kind, each.name, each.size) for each in found] == [
        ("parameters", "a", 1),
        ("gradients", "a", 2),
        ("gradients", "b", 3),
    ]
    assert histograms_of([], Alone()) == ()


def test_of_a_tensor_that_is_spread_each_rank_counts_its_part_once() -> None:
    """On a mesh of two data ranks and two tensor ranks: the second data rank holds copies."""
    whole = torch.randn(10, 6, generator=torch.Generator().manual_seed(1))
    whole[0, 0] = torch.inf
    plain = torch.randn(5, generator=torch.Generator().manual_seed(2))

    def work(ranks: Ranks) -> tuple[Histogram, ...]:
        replica = ranks.layout.data_rank
        first, second = 2 * replica, 2 * replica + 1
        pieces = (Piece(first, (0, 0), (7, 6)), Piece(second, (7, 0), (3, 6)))
        own = whole[:7] if ranks.layout.rank == first else whole[7:]
        one = Piece(first, (0, 0), (10, 6))
        on_one = Spread((10, 6), whole.dtype, (one,), whole if ranks.layout.rank == first else None)
        spread = Spread((10, 6), whole.dtype, pieces, own)
        return histograms_of(
            [("parameters", "split", spread), ("parameters", "plain", plain), ("gradients", "on one", on_one)], ranks
        )

    every = on_ranks(2, 2, work)
    expected = [of(whole), of(plain), of(whole)]
    for told in every:
        for found, alone in zip(told, expected, strict=True):
            assert (found.size, found.not_finite, found.counts) == (alone.size, alone.not_finite, alone.counts)
            assert (found.minimum, found.maximum) == (alone.minimum, alone.maximum)
            assert (found.mean, found.std) == pytest.approx((alone.mean, alone.std))
