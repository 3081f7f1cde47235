from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_trials.config.grid import grid_point, grid_points


def all_points(space: dict[str, Any]) -> list[dict[str, Any]]:
    return [grid_point(space, number) for number in range(grid_points(space))]


def axis(**leaf: Any) -> list[Any]:
    return [each["x"] for each in all_points({"x": leaf})]


@pytest.mark.parametrize(
    ("leaf", "values"),
    [
        ({"type": "double", "minval": 0.0, "maxval": 1.0, "count": 5}, [0.0, 0.25, 0.5, 0.75, 1.0]),
        ({"type": "double", "minval": 0.1, "maxval": 0.4, "count": 4}, [0.1, 0.2, 0.3, 0.4]),
        ({"type": "double", "minval": 1.0, "maxval": 2.0, "count": 1}, [1.5]),
        ({"type": "double", "minval": -1e308, "maxval": 1e308, "count": 3}, [-1e308, 0.0, 1e308]),
        ({"type": "int", "minval": 1, "maxval": 9, "count": 3}, [1, 5, 9]),
        ({"type": "int", "minval": 1, "maxval": 4, "count": 3}, [1, 3, 4]),  # 2.5 goes away from zero
        ({"type": "int", "minval": -4, "maxval": -1, "count": 3}, [-4, -3, -1]),
        ({"type": "int", "minval": -1, "maxval": 2, "count": 3}, [-1, 1, 2]),
        ({"type": "int", "minval": -2, "maxval": 1, "count": 3}, [-2, -1, 1]),
        ({"type": "int", "minval": 1, "maxval": 3, "count": 10}, [1, 2, 3]),
        ({"type": "int", "minval": 1, "maxval": 4, "count": 1}, [3]),
        ({"type": "int", "minval": 0, "maxval": 2**63 - 1, "count": 2}, [0, 2**63 - 1]),
        ({"type": "log", "base": 10.0, "minval": -4.0, "maxval": -1.0, "count": 4}, [1e-4, 1e-3, 1e-2, 0.1]),
        ({"type": "log", "base": 10, "minval": -4.0, "maxval": -2.0, "count": 1}, [1e-3]),
        ({"type": "log", "base": 2.0, "minval": 0.0, "maxval": 3.0, "count": 3}, [1.0, 2.0**1.5, 8.0]),
        ({"type": "categorical", "vals": ["b", "a", None, [1], "a"]}, ["b", "a", None, [1]]),
    ],
)
def test_values_are_evenly_spaced_from_end_to_end(leaf: dict[str, Any], values: list[Any]) -> None:
    assert axis(**leaf) == values


def test_names_are_sorted_by_their_whole_path_and_the_first_varies_slowest() -> None:
    space = {
        "m": {"type": "int", "minval": 1, "maxval": 2, "count": 2},
        "group": {"z": {"type": "categorical", "vals": ["x", "y"]}, "k": 0},
        "c": 5,
    }

    assert all_points(space) == [{"m": m, "group": {"z": z, "k": 0}, "c": 5} for z in ("x", "y") for m in (1, 2)]


def test_without_a_range_there_is_one_point() -> None:
    assert all_points({}) == [{}]
    assert all_points({"a": {"b": [1], "c": {"type": "const", "val": {"d": 1}}}}) == [{"a": {"b": [1], "c": {"d": 1}}}]


@given(low=st.integers(-1000, 1000), width=st.integers(1, 1000), count=st.integers(1, 1200))
def test_whole_numbers_are_as_many_as_asked_for_or_as_there_are_and_all_different(
    low: int, width: int, count: int
) -> None:
    values = axis(type="int", minval=low, maxval=low + width, count=count)

    assert len(set(values)) == len(values) == min(count, width + 1)
    assert values == sorted(values)
    if count > 1:
        assert (values[0], values[-1]) == (low, low + width)


def test_points_share_nothing_with_the_config() -> None:
    space = {"a": {"type": "categorical", "vals": [[1]]}, "b": [2]}
    grid_point(space, 0)["a"].append(2)
    grid_point(space, 0)["b"].append(3)

    assert grid_point(space, 0) == {"a": [1], "b": [2]}
