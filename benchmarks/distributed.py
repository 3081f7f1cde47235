"""Trials on several slots: how soon they train, how they scale beside DistributedDataParallel, what an event costs.

One thread per slot throughout. The order of those compared turns round by round.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

from train import HYPERPARAMETERS, TRIALS, machine, spread

HERE = Path(__file__).parent
SLOTS = 2
SCALING = [  # model, samples per batch, whether these are split over the slots or each has so many; measured steps
    ("MNISTLinear", 256, True, 50, 350),
    ("MNISTLinear", 256, False, 50, 350),
    ("TutorialCNN", 64, False, 20, 120),
]
EVENTS = (500, 4500)  # first and last measured step, an event each
Figures = dict[str, float]


def create(
    model: str, batch: int, ranks: int, first: int, last: int, environment: dict[str, str], **config: Any
) -> Figures:
    """What rank 0 of one trial measured, and when each rank came to its first batch after the decision to start it."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "stamps.json"
        document = {
            "name": f"benchmark {model} {batch} {ranks}",
            "entrypoint": f"stamped:{TRIALS[model]}",
            "hyperparameters": {**HYPERPARAMETERS[model], "global_batch_size": batch},
            "searcher": {"name": "single", "metric": "validation_loss", "max_length": {"batches": last}},
            "data": {}
            if model == "Tiny"
            else {"name": "mnist", **({"one_hot": True} if model == "MNISTLinear" else {})},
            "resources": {"slots_per_trial": ranks},
            **config,
        }
        path = Path(folder) / "benchmark.yaml"
        path.write_text(json.dumps(document))
        command = [sys.executable, "-m", "mnist_trials", "--home", f"{folder}/home", "create", str(path)]
        command += [str(HERE / "stamped"), "--slots", str(SLOTS), "--json"]
        stamps = {"BENCHMARK_STAMPS": f"{first}:{last}:{out}"}
        subprocess.run(command, env=environment | stamps, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        with closing(sqlite3.connect(f"{folder}/home/store.sqlite")) as store:
            (decided,) = store.execute("SELECT started FROM runs").fetchone()
        begun = [float(Path(f"{out}.{rank}").read_text()) - decided for rank in range(ranks)]
        return {**json.loads(out.read_text()), "first": min(begun), "all": max(begun)}


def by_hand(model: str, batch: int, ranks: int, first: int, last: int, environment: dict[str, str]) -> Figures:
    """What rank 0 of the hand-written loop measured, under torchrun where there are several ranks."""
    loop = [str(HERE / "loops.py"), "eager" if ranks == 1 else "ddp", model, str(batch), str(first), str(last)]
    several = ["-m", "torch.distributed.run", "--nproc-per-node", str(ranks), "--master-addr", "127.0.0.1"]
    command = [sys.executable, *(several if ranks > 1 else []), *loop]
    done = subprocess.run(command, env=environment, check=True, capture_output=True)
    figures: Figures = json.loads(next(line for line in done.stdout.splitlines() if line.startswith(b"{")))
    return figures


def turns(rounds: int, names: list[Any]) -> Iterator[Any]:
    for number in range(rounds):
        yield from names[number % len(names) :] + names[: number % len(names)]


def scaling(rounds: int, environment: dict[str, str]) -> Iterator[str]:
    heads = (
        "model",
        "samples per batch",
        "1 slot",
        "2 slots",
        "per slot, 2 / 1",
        "the same by hand",
        "ours / by hand, 2",
    )
    yield f"| {' | '.join(heads)} |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for model, share, split, first, last in SCALING:
        found: dict[tuple[str, int], list[float]] = {}
        for name, ranks in turns(rounds, list(product(("ours", "by hand"), (1, SLOTS)))):
            batch = share if split else share * ranks
            measure: Callable[..., Figures] = create if name == "ours" else by_hand
            wall = measure(model, batch, ranks, first, last, environment)["wall"]
            found.setdefault((name, ranks), []).append(batch / wall)
            print(f"{model} {batch} {name} {ranks}: {batch / wall:,.0f} samples/s", file=sys.stderr, flush=True)
        one, two = found["ours", 1], found["ours", SLOTS]
        hand = [b / a / SLOTS for a, b in zip(found["by hand", 1], found["by hand", SLOTS], strict=True)]
        mine = [b / a / SLOTS for a, b in zip(one, two, strict=True)]
        ratio = [a / b for a, b in zip(two, found["by hand", SLOTS], strict=True)]
        size = f"{share}, split over the slots" if split else f"{share} on each slot"
        yield (
            f"| {model} | {size} | {statistics.median(one):,.0f} | {statistics.median(two):,.0f} "
            f"| {spread(mine, 2)} | {spread(hand, 2)} | {spread(ratio, 2)} |"
        )


def start(rounds: int, environment: dict[str, str]) -> Iterator[str]:
    yield "| ranks | first rank, s | last rank, s |"
    yield "| --- | --- | --- |"
    found: dict[int, list[Figures]] = {}
    for ranks in turns(rounds, [1, SLOTS]):
        found.setdefault(ranks, []).append(create("Tiny", 16, ranks, 2, 3, environment))
        print(f"start of {ranks}: {found[ranks][-1]}", file=sys.stderr, flush=True)
    for ranks, figures in found.items():
        yield f"| {ranks} | {spread([f['first'] for f in figures], 2)} | {spread([f['all'] for f in figures], 2)} |"


def events(rounds: int, environment: dict[str, str]) -> Iterator[str]:
    yield "| ranks | us of the controller's CPU per event |"
    yield "| --- | --- |"
    found: dict[int, list[float]] = {}
    for ranks in turns(rounds, [1, SLOTS]):
        figures = create("Tiny", 16, ranks, *EVENTS, environment, scheduling_unit=1)
        found.setdefault(ranks, []).append(figures["controller"] * 1e6)
        print(f"events of {ranks}: {figures}", file=sys.stderr, flush=True)
    for ranks, costs in found.items():
        yield f"| {ranks} | {spread(costs, 0)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    environment = dict(os.environ) | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    lines = [
        "# Trials on several slots",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, {machine()}; launcher `local`; {rounds} rounds, median (range).",
        "",
        "## Samples per second",
        "",
        "By hand: an eager loop over the same in-memory tensor; on two slots DistributedDataParallel under torchrun.",
        "",
        *scaling(rounds, environment),
        "",
        "## From the decision to the first training step",
        "",
        "A cold start: from the moment at which the controller has decided to start the trial, until `train_batch` is",
        "called first. Two processes start at once on the two cores that they share with the controller.",
        "",
        *start(rounds, environment),
        "",
        "## An event",
        "",
        "A trial that reports its metrics after every batch, as fast as it can; rank 0 speaks for all.",
        "",
        *events(rounds, environment),
    ]
    text = "\n".join(lines) + "\n"
    (HERE / "results" / "distributed.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
