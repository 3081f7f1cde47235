"""What goes into a checkpoint and comes out of it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

from mnist_trials.records import MetricValues


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointContent:
    """A trial's whole state at one point of its training.

    Tensors may lie on any device when they are written, or be a `Spread`, of which several ranks hold parts; they come
    back whole, on the CPU.
    """

    model: Mapping[str, Any]  # parameters and buffers by name: tensors, or what is spread
    state: Mapping[str, Any]  # all the rest, nested; mnist_trials.checkpoint.tensors says what may be in it
    batches: int
    epochs: float
    records: int
    metrics: MetricValues  # the validation metrics at this point, or empty
    hparams: Mapping[str, Any]  # strict JSON
    trial_class: str  # "module:Class"
    experiment_id: int  # 0: written outside an experiment
    trial_id: int
    config: Mapping[str, Any]  # the resolved experiment config, or empty; strict JSON
    code: str | None  # where the snapshot of the trial's code lies
