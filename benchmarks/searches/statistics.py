"""Means with confidence intervals, by the normal distribution: there are a hundred seeds and more."""

from __future__ import annotations

import math
from statistics import fmean, median, stdev

_Z = 1.96  # 95 %


def spread(values: list[float], digits: int = 1) -> str:
    """The median over rounds, and the range where there are several."""
    middle = f"{median(values):,.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):,.{digits}f} .. {max(values):,.{digits}f})"


def interval(values: list[float]) -> tuple[float, float]:
    """The mean, and half the width of its confidence interval."""
    return fmean(values), _Z * stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.inf


def share(wins: list[float]) -> str:
    """The share of wins in percent (a tie is half a win), with its confidence interval (Wilson)."""
    n, p = len(wins), fmean(wins)
    middle = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z * math.sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2)) / (1 + _Z**2 / n)
    return f"{p:.0%} ({max(middle - half, 0.0):.0%} .. {min(middle + half, 1.0):.0%})"


def win(mine: float, theirs: float) -> float:
    """1 for the smaller regret, a half for equal ones."""
    return 0.5 if mine == theirs else float(mine < theirs)
