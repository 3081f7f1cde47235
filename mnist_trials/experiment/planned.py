"""The plan of a search in figures: how many trials end where, and how long all of it takes on some slots."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from heapq import heappop, heappush
from random import Random

from mnist_trials.plugin import Bracket


def ends(bracket: Bracket) -> list[tuple[int, int]]:
    """By rung, from the lowest: its units, and how many trials end there."""
    beyond = [*bracket.trials[1:], 0]
    return [(units, trials - more) for units, trials, more in zip(bracket.rungs, bracket.trials, beyond, strict=True)]


def planned_lengths(brackets: Sequence[Bracket]) -> Counter[int]:
    """How many trials train for how many units."""
    lengths: Counter[int] = Counter()
    for bracket in brackets:
        for units, trials in ends(bracket):
            lengths[units] += trials
    return lengths


def planned_duration(brackets: Sequence[Bracket], at_once: int) -> int:
    """How long it takes when at most `at_once` trials run at once, in the time that a trial takes for one unit.

    Trials start in the order in which they are made. The place of one that ends goes to its bracket, else to the first
    that has trials left to make. Which trial of a bracket gets far cannot be known: their order is random, and the same
    each time.
    """
    lengths = [_shuffled(bracket) for bracket in brackets]
    waiting: deque[tuple[int, int]] = deque()  # units, bracket
    running: list[tuple[int, int]] = []  # when it ends, bracket
    now = 0

    def make(preferred: int) -> None:
        for index in (preferred, *range(len(brackets))):
            if lengths[index]:
                waiting.append((lengths[index].pop(), index))
                return

    for index, bracket in enumerate(brackets):
        for _ in range(min(bracket.max_concurrent_trials, len(lengths[index]))):
            make(index)
    for _ in range(sum(bracket.max_concurrent_trials for bracket in brackets) - len(waiting)):
        make(0)
    while waiting or running:
        while waiting and len(running) < at_once:
            units, index = waiting.popleft()
            heappush(running, (now + units, index))
        now, index = heappop(running)
        make(index)
    return now


def _shuffled(bracket: Bracket) -> list[int]:
    lengths = [units for units, trials in ends(bracket) for _ in range(trials)]
    Random(0).shuffle(lengths)  # noqa: S311
    return lengths
