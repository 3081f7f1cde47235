"""`python -m searches.quality METHOD FAMILY FIRST LAST`: searches of these seeds under the clock, as lines of JSON.

Each line: {"method", "family", "seed", "regret": by budget, "whole": {"regret", "units", "trials"}}. The regret is the
true loss of the checkpoint that reported best so far, less the best true loss of any configuration at the full length.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

from searches.clock import Method, Progress, RandomSearch, run
from searches.curves import DIVISOR, FULL, configuration

SLOTS = 16
MOST = 1024  # configurations that a search may try: more than any can within the largest budget
WHOLE = 256  # trials of a search that goes on to its end
BUDGETS = (4 * FULL, 8 * FULL, 16 * FULL, 32 * FULL)
OURS = ("asha", "asha, promoting", "adaptive_asha", "adaptive_asha, promoting")


def make(method: str, trials: int, name: str) -> Method:
    """A method by its name in the tables."""
    if method == "random":
        return RandomSearch(trials)
    if method in OURS:
        from searches.ours import Ours

        searcher, _, promoting = method.partition(", ")
        return Ours(searcher, not promoting, trials, SLOTS)
    from searches.peers import peer

    return peer(method, trials, name, FULL, DIVISOR)


def measure(method: str, family: str, seed: int) -> dict[str, object]:
    """One seed: a search cut off at the largest budget, and a smaller one to its end."""
    best = min(configuration(family, seed, number).true[-1] for number in range(1, MOST + 1))
    progress, _ = run(make(method, MOST, f"{family} {seed}"), family, seed, slots=SLOTS, budget=BUDGETS[-1])
    whole, units = run(make(method, WHOLE, f"whole {family} {seed}"), family, seed, slots=SLOTS, budget=None)
    return {
        "method": method,
        "family": family,
        "seed": seed,
        "regret": {str(budget): _at(progress, budget) - best for budget in BUDGETS},
        "whole": {"regret": whole[-1][1] - best, "units": units},
    }


def _at(progress: Progress, budget: int) -> float:
    return [loss for spent, loss in progress if spent <= budget][-1]


def _lines(method: str, family: str, first: int, last: int) -> Iterator[str]:
    for seed in range(first, last + 1):
        yield json.dumps(measure(method, family, seed))
        configuration.cache_clear()


if __name__ == "__main__":
    for line in _lines(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])):
        print(line, flush=True)
