"""Made-up learning curves: losses at a few points of training, as functions of (family, seed, number) alone.

So trial i of seed s is the same configuration for every method. A family is fixed before anything is measured on it.

`power`     asymptote + drop * units^-rate, all three drawn by themselves: curves cross, and early ranks tell something.
`noisy`     the same with noise in every report, as large as what separates the best twentieth.
`network`   five hyperparameters (learning rate, width, dropout, optimizer, batch size) determine asymptote, speed of
            learning and seconds per unit; a large learning rate learns fast, ends higher, and diverges if too large.
`late`      a plateau, then a fall; what falls later tends to fall deeper, so that early ranks say next to nothing.

Elsewhere than in `network` the seconds per unit are drawn too, so that trials overtake each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from random import Random

FULL = 64  # units that a trial trains for
POINTS = (1, 2, 4, 8, 16, 32, 64)  # where every trial is validated, whatever the method
RUNGS = (1, 4, 16, 64)  # where methods judge
DIVISOR = 4
DIVERGED = 10.0  # finite, because methods differ in what they make of NaN, which is not what is compared
_NOISE = 0.05


@dataclass(frozen=True, slots=True)
class Configuration:
    """One configuration: by point of `POINTS`, what is reported of it and what it is truly worth."""

    reported: tuple[float, ...]
    true: tuple[float, ...]
    seconds_per_unit: float


Curve = Callable[[int], float]


def _power(dice: Random) -> Curve:
    asymptote, drop, rate = dice.random(), dice.uniform(0.5, 3.0), dice.lognormvariate(math.log(0.6), 0.4)
    return lambda units: asymptote + drop * units**-rate


def _late(dice: Random) -> Curve:
    asymptote, plateau = dice.random(), dice.uniform(1.2, 1.8)
    fall = 2 ** min(max(dice.gauss(3.5 - 2.0 * asymptote, 1.5), -1.0), 5.0)  # units at which half of it is done
    return lambda units: asymptote + (plateau - asymptote) / (1 + (units / fall) ** 3)


def _network(dice: Random) -> tuple[Curve, float]:
    rate, width, dropout = dice.uniform(-5, 0), dice.uniform(4, 10), dice.uniform(0, 0.8)  # log10, log2, as it is
    optimizer, batch = dice.randrange(3), dice.randrange(3)
    off = rate - ((-1.0, -1.5, -3.0)[optimizer] + 0.3 * (batch - 1))  # from the best learning rate
    asymptote = 0.05 + 0.03 * off**2 + 0.015 * (width - 8.5) ** 2 + 0.4 * (dropout - 0.3) ** 2
    asymptote += (0.03, 0.0, 0.02)[optimizer]
    speed = min(max(0.6 + 0.2 * off + 0.08 * (1 - batch) - 0.2 * dropout, 0.2), 1.2)
    drop = 0.25 * width + 0.5 * dice.random()
    seconds = 2 ** ((width - 7) / 3) * (1.5, 1.0, 0.8)[batch]
    if off > 1.2:
        return (lambda units: DIVERGED), seconds
    return (lambda units: min(asymptote + drop * units**-speed, DIVERGED)), seconds


@cache
def configuration(family: str, seed: int, number: int) -> Configuration:
    """Configuration `number`, from 1, of a family and seed."""
    dice = Random(f"{family}/{seed}/{number}")
    seconds = dice.lognormvariate(0.0, 0.3)
    if family == "network":
        curve, seconds = _network(dice)
    else:
        curve = _late(dice) if family == "late" else _power(dice)
    true = tuple(curve(units) for units in POINTS)
    noise = {"noisy": _NOISE, "network": 0.01}.get(family, 0.0)
    return Configuration(tuple(value + dice.gauss(0.0, noise) for value in true), true, seconds)


FAMILIES = ("power", "noisy", "network", "late")


def rank_correlation(family: str, units: int, seeds: int = 5, count: int = 500) -> float:
    """Spearman's, between reports after `units` and true values at the full length; the mean over some seeds."""
    index = POINTS.index(units)
    return sum(_spearman(family, seed, index, count) for seed in range(seeds)) / seeds


def kept_of_the_best(family: str, units: int, seeds: int = 5, count: int = 512) -> float:
    """The share of the best sixteenth, at the full length, that is among the best quarter after `units`."""
    index, kept = POINTS.index(units), 0
    for seed in range(seeds):
        drawn = [configuration(family, seed, number) for number in range(1, count + 1)]
        best = sorted(drawn, key=lambda one: one.true[-1])[: count // 16]
        threshold = sorted(one.reported[index] for one in drawn)[count // DIVISOR - 1]
        kept += sum(one.reported[index] <= threshold for one in best)
    return kept / (seeds * (count // 16))


def _spearman(family: str, seed: int, index: int, count: int) -> float:
    drawn = [configuration(family, seed, number) for number in range(1, count + 1)]
    early = _ranks([one.reported[index] for one in drawn])
    final = _ranks([one.true[-1] for one in drawn])
    middle = (count - 1) / 2
    product = sum((a - middle) * (b - middle) for a, b in zip(early, final))
    return product / math.sqrt(sum((a - middle) ** 2 for a in early) * sum((b - middle) ** 2 for b in final))


def _ranks(values: list[float]) -> list[float]:
    """Ranks from 0; equal values share the mean of theirs."""
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = [0.0] * len(values)
    first = 0
    while first < len(order):
        last = first
        while last + 1 < len(order) and values[order[last + 1]] == values[order[first]]:
            last += 1
        for place in range(first, last + 1):
            ranks[order[place]] = (first + last) / 2
        first = last + 1
    return ranks
