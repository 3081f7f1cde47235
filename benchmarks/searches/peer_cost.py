"""`python -m searches.peer_cost PEER TRIALS LIMIT`: what a peer's decisions cost, as JSON, run where it is installed.

After LIMIT seconds of CPU the search is cut off: `trials` says how many were begun by then.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections import deque
from typing import Any

from searches.clock import Method
from searches.curves import DIVISOR
from searches.peers import peer
from searches.workload import LENGTH, RUNGS, SLOTS, metric


def drive(method: Method, limit: float) -> tuple[int, int]:
    """A whole search as in `drive.py`; returns how many validations were reported, and how many trials begun."""
    running: deque[int] = deque()
    reached: dict[int, int] = {}
    most = decisions = 0
    end = time.process_time() + limit
    while time.process_time() < end:
        while len(running) < SLOTS and (trial := method.next()) is not None:
            running.append(trial)
            most = max(most, trial)
        if not running:
            break
        trial = running.popleft()
        rung = reached.get(trial, 0)
        reached[trial] = rung + 1
        decisions += 1
        if method.report(trial, RUNGS[rung], metric(trial, RUNGS[rung])) and RUNGS[rung] < LENGTH:
            running.append(trial)
    return decisions, most


def measure(kind: str, trials: int, limit: float) -> dict[str, Any]:
    """Figures of one search."""
    drive(peer(kind, 100, "warm up", LENGTH, DIVISOR), limit)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    method = peer(kind, trials, "benchmark", LENGTH, DIVISOR)
    wall, cpu = time.perf_counter(), time.process_time()
    decisions, begun = drive(method, limit)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {
        "decisions": decisions,
        "trials": begun,
        "cpu_us": cpu / decisions * 1e6,
        "wall_us": wall / decisions * 1e6,
        "megabytes": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
    }


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))))
