"""How deep successive halving can go: exact arithmetic that a config is checked with and a searcher decides with."""

from __future__ import annotations

from fractions import Fraction
from typing import Final

MAX_RUNGS: Final = 1000
"""Of one bracket; a divisor close to 1 would allow for any number."""


def exact(divisor: float) -> Fraction:
    """The divisor as it was written (1.1 and not the float next to it), so that its powers are exact."""
    return Fraction(str(divisor))


def depth(number: int, divisor: Fraction) -> int:
    """How many rungs fit in `number` units: the whole part of log_divisor(number), plus 1; `MAX_RUNGS` at most."""
    levels, power = 1, divisor
    while power <= number and levels < MAX_RUNGS:
        levels, power = levels + 1, power * divisor
    return levels
