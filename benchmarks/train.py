"""CPU and wall time per training step: `mnist-trials create` against two hand-written loops, on real MNIST.

Every figure is a ratio between processes run one after another in the same round; the table gives the median over
rounds and the range. Ours is the whole create path: the worker's process time between two batches (reports, progress,
stop polls and metrics included), with the controller's own CPU over the same stretch added.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).parent
CASES = [  # model, batch, first and last measured step
    ("MNISTLinear", 64, 100, 900),
    ("MNISTLinear", 256, 50, 350),
    ("TutorialCNN", 64, 20, 220),
    ("TutorialCNN", 256, 10, 70),
    ("Tiny", 16, 2000, 12_000),
]
TRIALS = {"MNISTLinear": "StampedLinear", "TutorialCNN": "StampedCNN", "Tiny": "StampedTiny"}
HYPERPARAMETERS = {
    "MNISTLinear": {"learning_rate": 0.01, "hidden_size": 512, "bias": False, "loss": "mse", "optimizer": "sgd"},
    "TutorialCNN": {
        "learning_rate": 1.0,
        "n_filters1": 32,
        "n_filters2": 64,
        "dropout1": 0.25,
        "dropout2": 0.5,
        "optimizer": "adadelta",
    },
    "Tiny": {"learning_rate": 0.01, "optimizer": "sgd"},
}
Figures = dict[str, float]


def ours(model: str, batch: int, first: int, last: int, environment: dict[str, str]) -> Figures:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "stamps.json"
        config = {
            "name": f"benchmark {model} {batch}",
            "entrypoint": f"stamped:{TRIALS[model]}",
            "hyperparameters": {**HYPERPARAMETERS[model], "global_batch_size": batch},
            "searcher": {"name": "single", "metric": "validation_loss", "max_length": {"batches": last}},
            "data": {} if model == "Tiny" else {"name": "mnist"},
        }
        if model == "MNISTLinear":
            config["data"]["one_hot"] = True
        path = Path(folder) / "benchmark.yaml"
        path.write_text(json.dumps(config))
        command = [sys.executable, "-m", "mnist_trials", "--home", f"{folder}/home", "create", str(path)]
        # As many slots as cores: so the one that this trial takes has one thread, as the other loops have.
        command += [str(HERE / "stamped"), "--slots", str(len(os.sched_getaffinity(0))), "--json"]
        environment = environment | {"BENCHMARK_STAMPS": f"{first}:{last}:{out}"}
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        return json.loads(out.read_text())


def other(loop: str, model: str, batch: int, first: int, last: int, environment: dict[str, str]) -> Figures:
    command = [sys.executable, str(HERE / "loops.py"), loop, model, str(batch), str(first), str(last)]
    return json.loads(subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout)


def spread(values: list[float], digits: int = 3) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} .. {max(values):.{digits}f})"


def measure(rounds: int, environment: dict[str, str]) -> list[str]:
    rows = []
    for model, batch, first, last in CASES:
        loops = ["eager"] if model == "Tiny" else ["eager", "dataloader"]
        found: dict[str, list[Figures]] = {name: [] for name in ("ours", *loops)}
        for number in range(rounds):
            # The order turns round by round: nobody always comes first on a machine that warms up or slows down.
            names = list(found)
            for name in names[number % len(names) :] + names[: number % len(names)]:
                if name == "ours":
                    figures = ours(model, batch, first, last, environment)
                else:
                    figures = other(name, model, batch, first, last, environment)
                found[name].append(figures)
                print(f"{model} {batch} {name}: {figures}", file=sys.stderr, flush=True)
        rows.append(row(model, batch, found))
    return rows


def row(model: str, batch: int, found: dict[str, list[Figures]]) -> str:
    pairs = list(zip(found["ours"], found["eager"], strict=True))
    total = [(mine["cpu"] + mine["controller"]) / theirs["cpu"] for mine, theirs in pairs]
    worker = [mine["cpu"] / theirs["cpu"] for mine, theirs in pairs]
    wall = [mine["wall"] / theirs["wall"] for mine, theirs in pairs]
    added = [(mine["cpu"] + mine["controller"] - theirs["cpu"]) * 1e6 for mine, theirs in pairs]
    loader = "-"
    if "dataloader" in found:
        usual = zip(found["ours"], found["dataloader"], strict=True)
        loader = spread([theirs["wall"] / mine["wall"] for mine, theirs in usual], 2)
    step = statistics.median(theirs["cpu"] for theirs in found["eager"]) * 1e6
    return (
        f"| {model} | {batch} | {step:,.0f} | {spread(total)} | {spread(worker)} | {spread(wall)} "
        f"| {spread(added, 0)} | {loader} |"
    )


def machine() -> str:
    import torch

    names = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    return (
        f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores; Python {platform.python_version()}, "
        f"torch {torch.__version__}; 1 thread per process"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    environment = dict(os.environ) | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    head = [
        "# Training step: `mnist-trials create` against hand-written loops",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, {machine()}; {rounds} rounds, median (range).",
        "",
        "(a) a hand-written eager loop over the same in-memory tensor; (b) torchvision's data set behind a DataLoader.",
        "",
        "| model | batch | (a), us of CPU per step | CPU, ours / (a), controller included | CPU, worker alone / (a) "
        "| wall, ours / (a) | us of CPU added per step | wall, (b) / ours |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    text = "\n".join([*head, *measure(rounds, environment)]) + "\n"
    (HERE / "results" / "train.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
