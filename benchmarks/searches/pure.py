"""`python -m searches.pure HOW SEARCHER TRIALS`: what decisions cost without a store, as JSON.

HOW is `bare` (events fed to the searcher, nothing else) or `simulate` (the whole of `mt.simulate`). The search is
repeated until half a second of CPU time has gone by.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

from mnist_trials.plugin import Searcher
from searches.drive import drive
from searches.ours import make, settings
from searches.workload import LENGTH, RUNGS, SLOTS, metric

_ENOUGH = 0.5  # seconds of CPU


def section(searcher: str, trials: int) -> dict[str, Any]:
    """The `searcher` section of a benchmark's searcher: `asha`, `asha, promoting`, and so on."""
    name, _, promoting = searcher.partition(", ")
    return settings(name, not promoting, trials, LENGTH, len(RUNGS), SLOTS)


def bare(searcher: str, trials: int) -> tuple[int, Searcher | None]:
    """Nothing but the searcher and a deque of trials."""
    fresh = make(section(searcher, trials))
    return drive(fresh), fresh


def simulated(searcher: str, trials: int) -> tuple[int, Searcher | None]:
    """Through `mt.simulate`: sampling of hyperparameters, clock, slots, records of everything."""
    import mnist_trials as mt

    config = {
        "name": "benchmark",
        "entrypoint": "nothing:Trial",
        "hyperparameters": {"trial": {"type": "double", "minval": 0.0, "maxval": 1.0}},
        "searcher": section(searcher, trials),
    }
    result = mt.simulate(config, lambda hparams, units: metric(int(hparams["trial"] * 2**24), units), slots=SLOTS)
    assert len(result.trials) == trials
    return len(result.timeline), None


def repeated(search: Callable[[], tuple[int, Searcher | None]]) -> dict[str, Any]:
    """Figures of one search after another."""
    before = _megabytes()
    decisions, rounds, searcher = 0, 0, None
    wall, cpu = time.perf_counter(), time.process_time()
    while time.process_time() - cpu < _ENOUGH:
        made, searcher = search()
        decisions, rounds = decisions + made, rounds + 1
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    figures = {
        "decisions": decisions // rounds,
        "cpu_us": cpu / decisions * 1e6,
        "wall_us": wall / decisions * 1e6,
        "megabytes": _megabytes() - before,
    }
    return figures if searcher is None else {**figures, **_state(searcher)}


def _state(searcher: Searcher) -> dict[str, Any]:
    start = time.process_time()
    text = json.dumps(searcher.snapshot(), separators=(",", ":"))
    return {"snapshot_bytes": len(text), "snapshot_seconds": time.process_time() - start}


def _megabytes() -> float:
    """The most memory this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    how, searcher_name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    one = bare if how == "bare" else simulated
    one(searcher_name, 100)  # imports and plugins are not what is measured
    print(json.dumps(repeated(lambda: one(searcher_name, count))))
