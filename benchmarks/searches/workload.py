"""The made-up searches whose cost is measured, the same for everybody: lengths, places, and a table of metrics."""

from __future__ import annotations

from random import Random

LENGTH = 256
RUNGS = (1, 4, 16, 64, 256)
SLOTS = 16
_MASK = 2**16 - 1
_dice = Random(0)
_VALUES = [_dice.random() for _ in range(_MASK + 1)]


def metric(trial: int, units: int) -> float:
    """How good a trial is, and some noise at each rung."""
    return _VALUES[trial & _MASK] + 0.2 * _VALUES[(trial * 31 + units * 977) & _MASK]
