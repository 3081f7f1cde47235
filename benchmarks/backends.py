"""Training steps per second of CPU on every backend, beside hand-written loops on the same framework.

The same MLP (784-512-512-10) and CNN (32 and 64 channels), SGD and cross entropy, at two batch sizes, one thread, every
variant in a process of its own, all of them in each round, one after another. The trials run through `mt.Trainer`; a
callback stamps the clocks at the end of each epoch of 60 batches (MLP) or 12 (CNN). The first epoch, in which programs
are compiled, is told apart: what it took longer than a later one.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "epochs"))
from epochs import STEPS
from train import machine, spread

HERE = Path(__file__).parent
MODELS, BATCHES = ("MLP", "CNN"), (64, 256)
OURS = {  # variant: what its config has beside the others'
    "eager": {"backend": "cpu"},
    "compile": {"backend": "cpu", "compile": True},
    "program": {"backend": "cpu", "compile": "program"},
    "xla": {"backend": "xla"},
    "jax": {"backend": "jax"},
}
BY_HAND = ("eager", "compile", "jax step", "jax scan")
PAIRS = (("eager", "eager"), ("compile", "compile"), ("program", "compile"), ("jax", "jax step"), ("jax", "jax scan"))
SLOW = {("CNN", "jax scan"): 2}  # epochs of what takes minutes: XLA convolves many times slower in a loop on a CPU
Epochs = list[tuple[float, float]]
"""CPU and wall seconds of each epoch."""

SCRIPT = """
import json, sys
import mnist_trials as mt
import epochs

config = json.loads(sys.argv[1])
with mt.init(config=config) as context:
    trial = (epochs.JaxEpochs if config["backend"] == "jax" else epochs.TorchEpochs)(context)
    mt.Trainer(trial, context).fit(reporting_period=mt.Batch(100))
"""


def ours(variant: str, model: str, batch: int, epochs: int, folder: Path) -> Epochs:
    config = {
        "name": f"{variant} {model} {batch}",
        "entrypoint": ["python3", "benchmark"],
        "hyperparameters": {
            "model": model,
            "global_batch_size": batch,
            "optimizer": "sgd",
            "learning_rate": 0.01,
        },
        "searcher": {"name": "single", "metric": "validation_loss", "max_length": {"epochs": epochs}},
        **OURS[variant],
    }
    return run([sys.executable, "-c", SCRIPT, json.dumps(config)], folder)


def by_hand(loop: str, model: str, batch: int, epochs: int, folder: Path) -> Epochs:
    return run([sys.executable, str(HERE / "steps.py"), loop, model, str(batch), str(epochs)], folder)


def run(command: list[str], folder: Path) -> Epochs:
    out = folder / "epochs.json"
    out.unlink(missing_ok=True)
    environment = dict(os.environ) | {
        "BENCHMARK_EPOCHS": str(out),
        "MNIST_TRIALS_HOME": str(folder / "home"),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(HERE / "epochs"), os.environ.get("PYTHONPATH", "")])),
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
    }
    # One core: whatever threads a framework makes, they share it.
    bound = ["taskset", "-c", str(min(os.sched_getaffinity(0))), *command]
    finished = subprocess.run(
        bound, check=False, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    if finished.returncode:
        raise SystemExit(f"{command[2:]} ended with {finished.returncode}:\n{finished.stderr[-2000:]}")
    return [tuple(epoch) for epoch in json.loads(out.read_text())]


def steps_per_second(model: str, epochs: Epochs) -> float:
    return STEPS[model] / seconds_of_cpu(epochs)


def told(speed: float) -> str:
    return f"{speed:,.0f}" if speed >= 10 else f"{speed:.2g}"


def seconds_of_cpu(epochs: Epochs) -> float:
    return statistics.median(cpu for cpu, _ in epochs[1:])


def extra_of_first(epochs: Epochs) -> float:
    return epochs[0][1] - statistics.median(wall for _, wall in epochs[1:])


def measure(model: str, batch: int, rounds: int, epochs: int) -> list[str]:
    found: dict[tuple[str, str], list[Epochs]] = {}
    kinds = [("ours", variant) for variant in OURS] + [("by hand", loop) for loop in BY_HAND]
    for number in range(rounds):
        turn = number % len(kinds)
        for who, what in kinds[turn:] + kinds[:turn]:
            with tempfile.TemporaryDirectory() as folder:
                of = ours if who == "ours" else by_hand
                result = of(what, model, batch, SLOW.get((model, what), epochs), Path(folder))
            found.setdefault((who, what), []).append(result)
            print(
                f"{model} {batch} {who} {what}: {told(steps_per_second(model, result))} steps/s, first epoch "
                f"{extra_of_first(result):+.1f} s",
                file=sys.stderr,
                flush=True,
            )
    rows = []
    for (who, what), results in found.items():
        others = [theirs for mine, theirs in PAIRS if mine == what] if who == "ours" else []
        against = "; ".join(
            f"{spread(ratios(results, found['by hand', theirs]), 2)} of {theirs} by hand" for theirs in others
        )
        speed = statistics.median(steps_per_second(model, result) for result in results)
        first = statistics.median(map(extra_of_first, results))
        rows.append(f"| {model} | {batch} | {who}: {what} | {told(speed)} | {first:.1f} | {against or '-'} |")
    return rows


def ratios(mine: list[Epochs], theirs: list[Epochs]) -> list[float]:
    """How many times as fast mine are; the epochs of both have as many steps."""
    return [seconds_of_cpu(b) / seconds_of_cpu(a) for a, b in zip(mine, theirs, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=6)
    given = parser.parse_args()
    lines = [
        "# Training steps on every backend",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, {machine()}; {given.rounds} rounds, median (range).",
        "",
        "Steps per second of CPU after the first epoch; the seconds that the first epoch took longer than a later one "
        "(compilation); and the ratio to loops written by hand, in the same round.",
        "",
        "| model | batch | variant | steps per CPU second | first epoch, s | speed against |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for model in MODELS:
        for batch in BATCHES:
            lines += measure(model, batch, given.rounds, given.epochs)
    text = "\n".join(lines) + "\n"
    (HERE / "results" / "backends.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
