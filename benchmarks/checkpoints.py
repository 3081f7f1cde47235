"""What checkpoints cost: a training step with one every 50 batches against none, and saving and restoring alone.

Steps are those of MNISTCNN on real MNIST by `mnist-trials create`, as in `train.py`: the time between two batches, with
ten checkpoints in between or none. Saving is until the checkpoint is durable, restoring with every file verified.
Beside it `torch.save`, made durable with fsync, and `torch.load` of the same tensors in the same folder. The S3
endpoint is moto's server on loopback; beside it the file of `torch.save` is put and fetched by s3fs.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from train import HERE, Figures, machine, spread

EVERY = 50  # batches
FIRST, LAST = 100, 600  # the measured stretch
CASES = [(64, "adam"), (256, "sgd")]  # batch, optimizer
SIZES = [(4, 60), (64, 8), (512, 2)]  # MiB of a checkpoint's tensors, and how often it is saved in a round
S3_SIZES = [(4, 6), (64, 2)]
HYPERPARAMETERS = {
    "learning_rate": 0.01,
    "conv1_channels": 32,
    "conv2_channels": 64,
    "kernel_size": 3,
    "stride": 1,
    "hidden_size": 128,
    "dropout1": 0.25,
    "dropout2": 0.5,
    "bias": False,
    "loss": "cross_entropy",
}


def step(batch: int, optimizer: str, saves: bool, environment: dict[str, str]) -> Figures:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "stamps.json"
        config = {
            "name": "benchmark of checkpoints",
            "entrypoint": "stamped:StampedReference",
            "hyperparameters": {**HYPERPARAMETERS, "optimizer": optimizer, "global_batch_size": batch},
            "searcher": {"name": "single", "metric": "validation_loss", "max_length": {"batches": LAST}},
            "data": {"name": "mnist"},
        }
        if saves:
            config["min_checkpoint_period"] = {"batches": EVERY}
        path = Path(folder) / "benchmark.yaml"
        path.write_text(json.dumps(config))
        command = [sys.executable, "-m", "mnist_trials", "--home", f"{folder}/home", "create", str(path)]
        # As many slots as cores: so the one that this trial takes has one thread.
        command += [str(HERE / "stamped"), "--slots", str(len(os.sched_getaffinity(0))), "--json"]
        environment = environment | {"BENCHMARK_STAMPS": f"{FIRST}:{LAST}:{out}"}
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        return json.loads(out.read_text())


def steps(rounds: int, environment: dict[str, str]) -> list[str]:
    rows = []
    for batch, optimizer in CASES:
        wall, cpu, bare = [], [], []
        for number in range(rounds):
            # The order turns round by round, as in train.py.
            order = (True, False) if number % 2 else (False, True)
            found = {saves: step(batch, optimizer, saves, environment) for saves in order}
            print(f"batch {batch} {optimizer}: {found}", file=sys.stderr, flush=True)
            wall.append(found[True]["wall"] / found[False]["wall"])
            cpu.append(found[True]["cpu"] / found[False]["cpu"])
            bare.append(found[False]["wall"] * 1e3)
        rows.append(f"| {batch} | {optimizer} | {spread(bare, 2)} | {spread(wall)} | {spread(cpu)} |")
    return rows


def content(mebibytes: int) -> Any:
    """Weights and an optimizer's two moments of them, `mebibytes` in all."""
    import torch

    from mnist_trials.checkpoint import CheckpointContent

    count = mebibytes * (1 << 20) // 4 // 3 // 8
    model = {f"layers.{index}.weight": torch.randn(count) for index in range(8)}
    moments = {index: {"exp_avg": torch.randn(count), "exp_avg_sq": torch.rand(count)} for index in range(8)}
    return CheckpointContent(
        model=model,
        state={"optimizers": {"optimizer": {"state": moments}}},
        batches=1,
        epochs=0.0,
        records=64,
        metrics={},
        hparams={},
        trial_class="benchmark:Trial",
        experiment_id=0,
        trial_id=1,
        config={},
        code=None,
    )


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def synced(path: Path) -> None:
    for each in (path, path.parent):
        descriptor = os.open(each, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def dropped(folder: Path) -> None:
    """Let the system forget what it holds of the files in `folder`: they are read from the disk next."""
    for path in filter(Path.is_file, folder.rglob("*")):
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def disk(rounds: int, folder: Path) -> list[str]:
    rows = []
    for mebibytes, times in SIZES:
        whole = content(mebibytes)
        figures: dict[str, list[float]] = {name: [] for name in ("save", "torch.save", "cached", "read")}
        ratios: dict[str, list[float]] = {name: [] for name in ("save", "cached", "read")}
        verified: list[float] = []
        for number in range(rounds * times):
            ours, theirs = on_disk(whole, folder, ours_first=bool(number % 2))
            figures["torch.save"].append(mebibytes / theirs["save"])
            verified.append(ours["cached"] / theirs["verified"])
            for name, values in ratios.items():
                figures[name].append(mebibytes / ours[name])
                values.append(ours[name] / theirs[name])
        print(f"{mebibytes} MiB: {figures} {ratios}", file=sys.stderr, flush=True)
        rows.append(
            f"| {mebibytes} | {spread(figures['save'], 0)} | {spread(ratios['save'], 2)} "
            f"| {spread(figures['cached'], 0)} | {spread(ratios['cached'], 2)} | {spread(verified, 2)} "
            f"| {spread(figures['read'], 0)} | {spread(ratios['read'], 2)} |"
        )
    return rows


def digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def on_disk(whole: Any, folder: Path, ours_first: bool) -> tuple[Figures, Figures]:
    """Seconds of saving, of restoring what the system still holds, and of restoring from the disk."""
    import torch

    from mnist_trials.checkpoint import read_checkpoint, write_checkpoint
    from mnist_trials.plugin import get_plugins

    storage = get_plugins().find("checkpoint_storage", "directory").factory({}, folder / "checkpoints")
    name, plain = str(uuid.uuid4()), folder / "plain.pt"
    everything = {"model": whole.model, "state": whole.state}

    def save_plain() -> None:
        torch.save(everything, plain)
        synced(plain)

    def restore() -> None:
        with storage.fetch(name) as fetched:
            read_checkpoint(fetched)

    work: list[dict[str, Callable[[], object]]] = [
        {"save": lambda: write_checkpoint(storage, name, whole), "restore": restore},
        {"save": save_plain, "restore": lambda: torch.load(plain)},
    ]
    found: list[Figures] = [{}, {}]
    order = (0, 1) if ours_first else (1, 0)
    for index in order:
        found[index]["save"] = seconds(work[index]["save"])
    for index in order:
        found[index]["cached"] = seconds(work[index]["restore"])
    found[1]["verified"] = seconds(lambda: (digest_of(plain), torch.load(plain)))
    for index in order:
        dropped(folder)
        found[index]["read"] = seconds(work[index]["restore"])
    storage.delete(name)
    plain.unlink()
    return found[0], found[1]


@contextmanager
def moto() -> Any:
    sys.path.insert(0, str(HERE.parent))
    from tests.plugins.checkpoint_storage.moto_server import MotoServer

    server = MotoServer()
    try:
        server.make_bucket("benchmark")
        yield server
    finally:
        server.stop()


def s3(rounds: int, folder: Path) -> list[str]:
    import torch

    from mnist_trials.checkpoint import read_checkpoint, write_checkpoint
    from mnist_trials.plugin import get_plugins

    rows = []
    with moto() as server:
        options = server.options("benchmark")
        storage = get_plugins().find("checkpoint_storage", "s3").factory(options, folder / "staging")
        files = server.connect()
        for mebibytes, times in S3_SIZES:
            whole = content(mebibytes)
            found: dict[str, list[float]] = {name: [] for name in ("save", "restore", "put", "get")}
            for _ in range(rounds * times):
                name = str(uuid.uuid4())
                found["save"].append(seconds(lambda: write_checkpoint(storage, name, whole)))  # noqa: B023 - called here

                def restore() -> None:
                    with storage.fetch(name) as fetched:  # noqa: B023 - called here
                        read_checkpoint(fetched)

                found["restore"].append(seconds(restore))
                storage.delete(name)
                buffer = io.BytesIO()
                torch.save({"model": whole.model, "state": whole.state}, buffer)
                (folder / "plain.pt").write_bytes(buffer.getvalue())
                found["put"].append(seconds(lambda: files.put_file(str(folder / "plain.pt"), "benchmark/plain.pt")))
                found["get"].append(seconds(lambda: files.get_file("benchmark/plain.pt", str(folder / "back.pt"))))
            print(f"s3, {mebibytes} MiB: {found}", file=sys.stderr, flush=True)
            cells = [
                spread([mebibytes / value for value in found[name]], 0) for name in ("save", "put", "restore", "get")
            ]
            rows.append(f"| {mebibytes} | {' | '.join(cells)} |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where checkpoints are saved and restored; by default results/")
    parser.add_argument("--only", choices=("steps", "disk", "s3"), help="measure one part, and keep no result of it")
    arguments = parser.parse_args()
    parts = {arguments.only} if arguments.only else {"steps", "disk", "s3"}
    environment = dict(os.environ) | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    os.environ.update(environment)
    import torch

    torch.set_num_threads(1)
    lines = [
        "# Checkpoints",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, {machine()}; {arguments.rounds} rounds, median (range).",
        "",
        f"A step of MNISTCNN, with a checkpoint every {EVERY} batches against none; aim: at most 1.03.",
        "",
        "| batch | optimizer | ms of wall time per step without | wall, with / without "
        "| CPU of the worker, with / without |",
        "| --- | --- | --- | --- | --- |",
        *(steps(arguments.rounds, environment) if "steps" in parts else []),
        "",
        "Saving until durable and restoring with verification, on one disk, beside torch.save with fsync and "
        "torch.load; ratios are of seconds, ours / torch. Aim: restoring no slower.",
        "",
        "| MiB | save, MiB/s | save, ours / torch | restore what is cached, MiB/s | ours / torch "
        "| ours / SHA-256 of its file and torch | restore from the disk, MiB/s | ours / torch |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    with tempfile.TemporaryDirectory(dir=arguments.folder or HERE / "results") as folder:
        lines += disk(arguments.rounds, Path(folder)) if "disk" in parts else []
        lines += [
            "",
            "The same through S3 (moto's server, a Python process on loopback), beside one file put and fetched by "
            "s3fs.",
            "",
            "| MiB | save, MiB/s | s3fs put, MiB/s | restore, MiB/s | s3fs get, MiB/s |",
            "| --- | --- | --- | --- | --- |",
            *(s3(arguments.rounds, Path(folder)) if "s3" in parts else []),
        ]
    text = "\n".join(lines) + "\n"
    if arguments.only is None:
        (HERE / "results" / "checkpoints.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
