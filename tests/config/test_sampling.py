"""Hyperparameters and seeds are functions of (seed, number, name) alone."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mnist_trials.config import sample, trial_seed

SPACE: dict[str, Any] = {
    "constant": 3,
    "listed": [1, [2]],
    "map": {"type": "const", "val": {"a": 1}},
    "n": {"type": "int", "minval": -2, "maxval": 2},
    "group": {
        "rate": {"type": "log", "base": 10.0, "minval": -4.0, "maxval": -1.0},
        "dropout": {"type": "double", "minval": 0.2, "maxval": 0.8},
        "kind": {"type": "categorical", "vals": ["a", None, [1]]},
    },
}


def test_draws_are_the_same_for_ever() -> None:
    drawn = sample(SPACE, 7, 1)

    assert math.isclose(drawn["group"].pop("rate"), 0.00025840936342148705, rel_tol=1e-12)
    assert drawn == {
        "constant": 3,
        "listed": [1, [2]],
        "map": {"a": 1},
        "n": 2,
        "group": {"dropout": 0.42865690168049075, "kind": [1]},
    }
    assert [trial_seed(7, trial) for trial in (1, 2, 3)] == [899747367, 682765955, 1845869289]


@given(seed=st.integers(0, 2**31 - 1), index=st.integers(0, 10**9))
def test_every_draw_lies_within_its_bounds(seed: int, index: int) -> None:
    drawn = sample(SPACE, seed, index)

    assert drawn["n"] in range(-2, 3)
    assert 1e-4 <= drawn["group"]["rate"] <= 1e-1
    assert 0.2 <= drawn["group"]["dropout"] <= 0.8
    assert drawn["group"]["kind"] in ("a", None, [1])
    assert 0 <= trial_seed(seed, index) < 2**31


@given(st.floats(-1e308, 1e308), st.floats(-1e308, 1e308), st.integers(0, 1000))
def test_a_double_stays_within_the_widest_bounds(one: float, other: float, index: int) -> None:
    low, high = min(one, other), max(one, other)

    assert low <= sample({"x": {"type": "double", "minval": low, "maxval": high}}, 0, index)["x"] <= high


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1), st.integers(0, 1000))
def test_an_int_stays_within_the_widest_bounds(one: int, other: int, index: int) -> None:
    low, high = min(one, other), max(one, other)

    assert low <= sample({"x": {"type": "int", "minval": low, "maxval": high}}, 0, index)["x"] <= high


def test_a_draw_depends_neither_on_the_order_of_keys_nor_on_its_neighbours() -> None:
    turned = {name: SPACE[name] for name in reversed(SPACE)}
    turned["group"] = {name: SPACE["group"][name] for name in reversed(SPACE["group"])}

    for index in range(20):
        assert sample(turned, 1, index) == sample(SPACE, 1, index)
        alone = {"group": {"dropout": SPACE["group"]["dropout"]}, "n": SPACE["n"]}
        assert sample(alone, 1, index)["n"] == sample(SPACE, 1, index)["n"]


def test_draws_differ_by_seed_by_number_and_by_name() -> None:
    wide = {"type": "double", "minval": 0.0, "maxval": 1.0}
    drawn = [sample({"x": wide, "y": wide, "g": {"x": wide}}, seed, index) for seed in (0, 1) for index in (1, 2)]
    values = [value for each in drawn for value in (each["x"], each["y"], each["g"]["x"])]

    assert len(set(values)) == len(values)
    assert len({trial_seed(seed, trial) for seed in range(20) for trial in range(20)}) == 400


def test_draws_are_spread_evenly() -> None:
    drawn = [sample(SPACE, 3, index) for index in range(3000)]

    counts = Counter(each["n"] for each in drawn)
    assert sorted(counts) == [-2, -1, 0, 1, 2]
    assert all(500 < count < 700 for count in counts.values())
    kinds = Counter(str(each["group"]["kind"]) for each in drawn)
    assert len(kinds) == 3
    assert all(900 < count < 1100 for count in kinds.values())
    assert math.isclose(sum(each["group"]["dropout"] for each in drawn) / 3000, 0.5, abs_tol=0.02)
    exponents = [math.log10(each["group"]["rate"]) for each in drawn]
    assert math.isclose(sum(exponents) / 3000, -2.5, abs_tol=0.05)


def test_what_a_trial_changes_in_its_hyperparameters_stays_with_it() -> None:
    drawn = sample(SPACE, 0, 1)
    drawn["listed"][1].append(3)
    drawn["map"]["a"] = 2

    assert sample(SPACE, 0, 1)["listed"] == [1, [2]]
    assert sample(SPACE, 0, 1)["map"] == {"a": 1}


def test_a_log_range_without_a_base_takes_ten() -> None:
    with_base = {"x": {"type": "log", "base": 10.0, "minval": -3.0, "maxval": 0.0}}
    without = {"x": {"type": "log", "minval": -3.0, "maxval": 0.0}}

    assert sample(without, 5, 1) == sample(with_base, 5, 1)
