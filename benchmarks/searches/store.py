"""`python -m searches.store SEARCHER TRIALS FOLDER`: what decisions cost through controller and store, as JSON.

The real controller with a real SQLite file in a folder of its own in FOLDER; the workers are made up (`world.py`). The
controller dies after nine tenths of the validations that the search would have, and another one takes over: the time
from its beginning until it waits for events is that of recovery.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from mnist_trials.experiment import api, controller
from mnist_trials.experiment.life import take_charge
from mnist_trials.plugin import get_plugins
from mnist_trials.store import open_reader
from searches.pure import section
from searches.world import CutOff, MadeUpLauncher, Plugins, World

_PER_TRIAL = 1.2  # validations that a search surely has; nine tenths of about 1.33


def measure(searcher: str, trials: int, where: str) -> dict[str, Any]:
    """Figures of one search."""
    with tempfile.TemporaryDirectory(dir=where) as folder:
        home, context = Path(folder) / "home", Path(folder) / "context"
        context.mkdir()
        (context / "nothing.py").write_text("class Trial:\n    pass\n")
        experiment_id = api.submit(_config(searcher, trials), context, home=home)
        memory = _megabytes()
        first, wall = _charge(home, experiment_id, World(int(trials * _PER_TRIAL)))
        memory = _megabytes() - memory
        snapshot, behind, size = _stored(home, experiment_id)
        second, cpu, clock = World(validations=1), time.process_time(), time.perf_counter()
        _charge(home, experiment_id, second)
        assert second.asked_first is not None
        decisions = first.counts["ValidationCompleted"]
        return {
            "decisions": decisions,
            "decision_us": first.seconds["ValidationCompleted"] / decisions * 1e6,
            "all_us": sum(first.seconds.values()) / decisions * 1e6,
            "wall_us": wall / decisions * 1e6,
            "megabytes": memory,
            "snapshot_bytes": snapshot,
            "replayed": behind,
            "store_bytes": size,
            "recovery_cpu": second.asked_first[0] - cpu,
            "recovery_wall": second.asked_first[1] - clock,
        }


def _charge(home: Path, experiment_id: int, world: World) -> tuple[World, float]:
    MadeUpLauncher.world = world
    controller.Inbox = lambda: world
    start = time.perf_counter()
    with suppress(CutOff):
        take_charge(home, experiment_id)
    return world, time.perf_counter() - start


def _config(searcher: str, trials: int) -> dict[str, Any]:
    return {
        "name": "benchmark",
        "entrypoint": "nothing:Trial",
        "hyperparameters": {
            "learning_rate": {"type": "log", "minval": -4.0, "maxval": 0.0},
            "layers": {"type": "int", "minval": 1, "maxval": 8},
            "dropout": {"type": "double", "minval": 0.0, "maxval": 0.8},
        },
        "searcher": section(searcher, trials),
        "launcher": "made_up",
        "backend": "made_up",
    }


def _stored(home: Path, experiment_id: int) -> tuple[int, int, int]:
    """Characters of the snapshot, decisions since, bytes of the store."""
    with open_reader(home) as reader:
        saved = reader.searcher(experiment_id)
        assert saved is not None
        behind = sum(1 for _ in reader.each_decision(experiment_id, saved[2]))
    size = sum(path.stat().st_size for path in home.iterdir() if path.is_file())
    return len(json.dumps(saved[0], separators=(",", ":"))), behind, size


def _megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    get_plugins().register(Plugins(), "benchmark")
    measure(sys.argv[1], 100, sys.argv[3])  # imports are not what is measured
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]), sys.argv[3])))
