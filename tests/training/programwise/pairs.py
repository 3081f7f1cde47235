"""The same training eagerly and by programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from typing_extensions import override

import mnist_trials as mt
from tests.training.lab import SEARCHED, Lab, Run, Small

PROGRAM = {**SEARCHED, "compile": "program"}


class Normed(Small):
    """With buffers that every batch changes."""

    @override
    def build_model(self) -> Any:
        return torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(16, 8), torch.nn.BatchNorm1d(8), torch.nn.ReLU(), torch.nn.Linear(8, 3)
        )


def both(
    lab: Lab, trial: type[mt.Trial], hparams: Mapping[str, Any] | None = None, batches: int = 20, **options: Any
) -> tuple[Run, Run]:
    """The same training eagerly and by programs. An epoch is 13 batches, the last of 4 samples."""
    eager = lab.fit(trial, lab.context(hparams, **options), max_length=mt.Batch(batches))
    program = lab.fit(trial, lab.context(hparams, PROGRAM, **options), max_length=mt.Batch(batches))
    return eager, program


def apart(eager: Run, program: Run) -> float:
    """How far the weights are from each other."""
    return max(float((eager.weights[name] - w).abs().max()) for name, w in program.weights.items())


class Scheduled(Small):
    @override
    def build_lr_scheduler(self, optimizer: Any) -> Any:
        per_step = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
        return mt.LRSchedule(per_step, per="optimizer_step")
