"""A space of finitely many points is counted exactly, and gone through without repetition."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnist_trials.config import sample
from mnist_trials.config.space import permuted, points

INT = {"type": "int", "minval": -1, "maxval": 1}
WORD = {"type": "categorical", "vals": ["a", "b"]}
REAL = {"type": "double", "minval": 0.0, "maxval": 1.0, "count": 3}
LOG = {"type": "log", "base": 10.0, "minval": -3.0, "maxval": -1.0, "count": 3}


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        ({}, 1),
        ({"a": 3, "b": {"c": [1, 2], "d": {"type": "const", "val": {"e": 1}}}}, 1),
        ({"a": INT}, 3),
        ({"a": INT, "b": {"c": WORD, "d": WORD}}, 12),
        ({"a": {**INT, "count": 2}}, 3),  # `count` is for grids
        ({"a": {"type": "int", "minval": -(2**63), "maxval": 2**63 - 1}, "b": WORD}, 2**65),
        ({"a": {"type": "categorical", "vals": [1, 1.0, True, "1", 1, [1], [1]]}}, 5),
        ({"a": INT, "b": {"c": REAL}}, None),
        ({"a": LOG}, None),
    ],
)
def test_points_are_counted(space: dict[str, Any], expected: int | None) -> None:
    assert points(space) == expected


@pytest.mark.parametrize("seed", range(5))
def test_no_point_comes_again_before_all_have_come(seed: int) -> None:
    space = {"a": INT, "b": {"c": WORD, "d": {"type": "categorical", "vals": [None, [1], 2, 2]}}, "e": 5}

    for cycle in range(3):
        drawn = [json.dumps(sample(space, seed, 18 * cycle + i), sort_keys=True) for i in range(1, 19)]
        assert len(set(drawn)) == 18


def test_each_seed_and_each_round_has_an_order_of_its_own() -> None:
    space = {"a": {"type": "int", "minval": 1, "maxval": 8}}
    orders = [tuple(sample(space, seed, 8 * r + i)["a"] for i in range(1, 9)) for seed in range(5) for r in range(5)]

    assert len(set(orders)) == 25


@settings(deadline=None)  # a busy machine makes no difference
@given(
    size=st.integers(1, 400) | st.sampled_from((2**10, 2**10 + 1, 2**11 - 1)),
    key=st.integers(0, 2**31),
)
def test_permuted_is_a_permutation(size: int, key: int) -> None:
    assert sorted(permuted(number, size, key) for number in range(size)) == list(range(size))


@settings(deadline=None)
@given(size=st.integers(1, 10**200), share=st.floats(0, 1), key=st.integers())
def test_permuted_numbers_stay_below_any_size(size: int, share: float, key: int) -> None:
    number = min(int(share * 10**6) * size // 10**6, size - 1)

    assert 0 <= permuted(number, size, key) < size


@pytest.mark.parametrize("size", [2, 3, 4, 5, 7, 16, 33])
def test_every_number_comes_first_about_as_often(size: int) -> None:
    first = Counter(permuted(0, size, seed) for seed in range(400 * size))

    assert len(first) == size
    assert all(300 < count < 500 for count in first.values())


def test_every_order_of_a_handful_comes_about_as_often() -> None:
    seeds = 6000
    beginnings = Counter(tuple(permuted(number, 5, seed) for number in range(3)) for seed in range(seeds))

    expected = seeds / 60
    # Chi-square with 59 degrees of freedom: 100 is passed by chance once in a thousand times.
    assert len(beginnings) == 60
    assert sum((count - expected) ** 2 / expected for count in beginnings.values()) < 100


def test_neighbouring_trials_get_points_that_have_nothing_to_do_with_each_other() -> None:
    space = {"a": {"type": "int", "minval": 0, "maxval": 999}, "b": {"type": "int", "minval": 0, "maxval": 999}}
    drawn = [sample(space, 0, i) for i in range(1, 2001)]

    for name in ("a", "b"):
        values = [each[name] for each in drawn]
        assert 470 < sum(values) / len(values) < 530
        rises = sum(later > earlier for earlier, later in pairwise(values))
        assert 900 < rises < 1100


def test_a_range_of_any_size_is_drawn_from_within_its_bounds() -> None:
    space = {"a": {"type": "int", "minval": -(2**63), "maxval": 2**63 - 1}}
    drawn = [sample(space, 0, i)["a"] for i in range(1, 200)]

    assert len(set(drawn)) == 199
    assert min(drawn) < -(2**61) < 2**61 < max(drawn)


def test_the_order_in_which_names_are_written_does_not_matter() -> None:
    space: dict[str, Any] = {"a": INT, "b": {"c": WORD, "d": INT}, "e": 1}
    turned: dict[str, Any] = {"e": 1, "b": {"d": INT, "c": WORD}, "a": INT}

    assert [sample(space, 3, i) for i in range(1, 30)] == [sample(turned, 3, i) for i in range(1, 30)]


def test_one_point_is_drawn_again_and_again() -> None:
    assert [sample({"a": {"type": "categorical", "vals": ["x"]}}, 0, i) for i in (1, 2, 3)] == [{"a": "x"}] * 3


def test_draws_from_few_points_are_the_same_for_ever() -> None:
    space = {"a": INT, "b": {"c": WORD}}

    drawn = [sample(space, 7, i) for i in range(1, 9)]

    assert [(each["a"], each["b"]["c"]) for each in drawn] == [
        (-1, "a"),
        (1, "b"),
        (1, "a"),
        (0, "a"),
        (-1, "b"),
        (0, "b"),
        (0, "a"),
        (1, "b"),
    ]
