"""The trials that `train.py` measures: the ordinary ones, with two stamps of the clocks put into their training."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import torch

from mnist_trials import TensorData, Trial
from mnist_trials.mnist.trials import MNISTCNN, MNISTLinear, TutorialCNN

TICKS = os.sysconf("SC_CLK_TCK")


def cpu_of(pid: int) -> float:
    """Seconds of CPU that another process has used, in steps of 1/100 s."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


class Stamped(Trial):
    """Stamps the clocks at the first and the last batch of the measured stretch."""

    stamps: dict[int, tuple[float, float, float]]

    def stamp(self) -> None:
        first, last, self.out = os.environ["BENCHMARK_STAMPS"].split(":", 2)
        self.first, self.last = int(first), int(last)
        self.seen = 0
        self.stamps = {}
        Path(f"{self.out}.{self.context.rank}").write_text(str(time.time()))  # when this rank began to train

    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        if not hasattr(self, "seen"):
            self.stamp()
        self.seen += 1
        if self.seen in (self.first, self.last):
            self.stamps[self.seen] = (time.process_time(), time.perf_counter(), cpu_of(os.getppid()))
            if self.seen == self.last and self.context.rank == 0:
                worker, wall, controller = (b - a for a, b in zip(self.stamps[self.first], self.stamps[self.last]))
                steps = self.last - self.first
                Path(self.out).write_text(
                    json.dumps({"cpu": worker / steps, "wall": wall / steps, "controller": controller / steps})
                )
        return super().train_batch(batch, epoch_idx, batch_idx)


class StampedCNN(Stamped, TutorialCNN):
    pass


class StampedLinear(Stamped, MNISTLinear):
    pass


class StampedReference(Stamped, MNISTCNN):
    pass


class Tiny(Trial):
    """Next to no work per step, so that what the runtime adds shows: a linear layer of 16 x 4 on random numbers."""

    def build_model(self) -> torch.nn.Module:
        torch.manual_seed(0)
        return torch.nn.Linear(16, 4)

    def build_data(self) -> tuple[TensorData, TensorData]:
        generator = torch.Generator().manual_seed(1)
        images = torch.randn(20_000, 16, generator=generator)
        labels = torch.randint(0, 4, (20_000,), generator=generator)
        return TensorData(images, labels), TensorData(images[:64], labels[:64])

    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        images, labels = batch
        return {"loss": torch.nn.functional.cross_entropy(self.model(images), labels)}

    def evaluate_batch(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        images, labels = batch
        return {"validation_loss": torch.nn.functional.cross_entropy(self.model(images), labels)}


class StampedTiny(Stamped, Tiny):
    pass
