from __future__ import annotations

from fractions import Fraction

import pytest

from mnist_trials.config.rungs import MAX_RUNGS, depth, exact


@pytest.mark.parametrize(
    ("number", "divisor", "expected"),
    [(1, 4, 1), (3, 4, 1), (4, 4, 2), (1000, 10, 4), (999, 10, 3), (243, 3, 6), (11, 1.1, 26), (2**63, 2, 64)],
)
def test_a_length_has_room_for_as_many_rungs_as_it_can_be_divided(number: int, divisor: float, expected: int) -> None:
    assert depth(number, exact(divisor)) == expected


def test_a_divisor_next_to_one_is_not_counted_to_its_end() -> None:
    assert depth(10**18, exact(1.000001)) == MAX_RUNGS


def test_a_divisor_is_what_was_written() -> None:
    assert exact(1.1) == Fraction(11, 10)
    assert exact(4) == 4
