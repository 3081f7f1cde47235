"""The arithmetic of successive halving, exact: lengths of rungs, numbers of rungs and trials, shares of places."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any


def full_length(config: Mapping[str, Any]) -> int | None:
    """How long a trial trains at most, in the searcher's unit; None: the entrypoint decides."""
    if config.get("max_time") is not None:
        return int(config["max_time"])
    length = config.get("max_length")
    if isinstance(length, Mapping):
        length = next(iter(length.values()))
    return None if length is None else int(length)


def rung_lengths(length: int, divisor: Fraction, count: int) -> tuple[int, ...]:
    """The units of at most `count` rungs, rising to `length`; each is the next one's over `divisor`, at least 1."""
    units = (max(math.floor(length / divisor**power), 1) for power in range(count))
    return tuple(sorted(set(units)))


def kept(number: int, divisor: Fraction) -> int:
    """One in `divisor` of `number`, rounded down."""
    return number * divisor.denominator // divisor.numerator


def trials_by_rung(trials: int, divisor: Fraction, rungs: int) -> tuple[int, ...]:
    """How many of `trials` come to each of the rungs, by plan."""
    return tuple(max(math.floor(trials / divisor**power), 1) for power in range(rungs))


def bracket_depths(mode: str, deepest: int) -> list[int]:
    """The numbers of rungs of the brackets of a mode, most rungs first."""
    shallowest = {"aggressive": deepest, "standard": (deepest - 1) // 2 + 1, "conservative": 1}[mode]
    return list(range(deepest, shallowest - 1, -1))


def bracket_trials(depths: Sequence[int], max_trials: int, divisor: Fraction) -> list[int]:
    """How many trials each bracket gets: all cost about the same. May be fewer brackets than `depths`.

    The least aggressive brackets, which are the last, are left out where there are not enough trials for all.
    """
    weights = [divisor ** (depth - 1) / depth for depth in depths]
    whole = sum(weights)
    shares = [max(math.floor(max_trials * weight / whole), 1) for weight in weights]
    while sum(shares) > max_trials:
        shares.pop()
    shares[0] += max_trials - sum(shares)
    return shares


def bracket_places(trials: Sequence[int], max_concurrent: int, divisor: Fraction) -> list[int]:
    """How many trials of each bracket may run at once. `max_concurrent` 0: no bound but what the brackets set."""
    if max_concurrent == 0:
        return [max(trials[-1], math.floor(divisor))] * len(trials)
    each, more = divmod(max_concurrent, len(trials))
    return [each + (i < more) for i in range(len(trials))]
