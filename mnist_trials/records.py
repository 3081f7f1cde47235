"""Plain records that several layers share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal, final

MetricValues = Mapping[str, float | None]
"""Metric name to value; None stands for a value that was not finite."""


Mode = Literal["train_and_eval", "train", "eval"]
"""What an experiment is to do with its trials: train them, and validate where their config says so; train them, and
validate only where the searcher judges them; or only evaluate a checkpoint."""

MODES: Final[tuple[Mode, ...]] = ("train_and_eval", "train", "eval")


class ExperimentState(StrEnum):
    """Where an experiment is in its life."""

    ACTIVE = "ACTIVE"
    PAUSED = "PAUSED"
    STOPPING = "STOPPING"
    COMPLETED = "COMPLETED"
    CANCELED = "CANCELED"
    ERROR = "ERROR"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to the experiment."""
        return self in (ExperimentState.COMPLETED, ExperimentState.CANCELED, ExperimentState.ERROR)


class TrialState(StrEnum):
    """Where a trial is in its life."""

    QUEUED = "QUEUED"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    COMPLETED = "COMPLETED"
    CANCELED = "CANCELED"
    ERROR = "ERROR"

    @property
    def ended(self) -> bool:
        """Whether the trial will never run again."""
        return self in (TrialState.COMPLETED, TrialState.CANCELED, TrialState.ERROR)


class Outcome(StrEnum):
    """How one run (attempt) of a trial ended, in the worker's own words."""

    COMPLETED = "completed"  # trained as far as it was to
    STOPPED = "stopped"  # the searcher stopped it early; state saved
    PAUSED = "paused"  # a person paused it; state saved
    CANCELED = "canceled"  # a person cancelled it; state saved
    FAILED = "failed"  # an exception
    INVALID_HP = "invalid_hp"  # the trial raised InvalidHP


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One CUDA device, one XLA device, or one share of the CPU cores."""

    id: str  # unique on its host, such as "cpu:0" or "cuda:1"
    backend: str
    index: int
    description: str
    threads: int  # CPU threads that a rank on this slot may use
    host: str = "localhost"
    shares_cores: bool = False  # it is `threads` of the CPU's cores, whichever are free; else a device of its own


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorInfo:
    """An exception of a worker. `traceback` starts at the user's own code where there is any."""

    type: str
    message: str
    traceback: str
    batches: int  # batches trained when it was raised
    retryable: bool = True  # False: trying again from the checkpoint cannot end otherwise


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """How the elements of one parameter, or of its gradient, are distributed. All but `not_finite` leave those out."""

    kind: str  # "parameters" or "gradients"
    name: str
    size: int  # elements in all
    not_finite: int  # of these
    minimum: float | None  # None, here and below: none is finite, or the number is too large
    maximum: float | None
    mean: float | None
    std: float | None  # of the elements themselves, not of a population that they were drawn from
    counts: tuple[int, ...]  # in bins of one width from the minimum to the maximum

    def edges(self) -> list[float]:
        """The ends of the bins, rising, one more than there are bins; around the value where all are the same."""
        low, high = self.minimum or 0.0, self.maximum or 0.0
        if low == high:
            low, high = low - 0.5, high + 0.5
        bins = len(self.counts)
        return [low + (high - low) * (i / bins) for i in range(bins)] + [high]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointInfo:
    """What is known of one checkpoint besides its content."""

    uuid: str
    batches: int
    epochs: float
    records: int
    metrics: MetricValues  # the validation metrics at this point, or empty
    bytes: int
    location: str  # for a person: a path or URL


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessIdentity:
    """Names a process group for good: a pid alone is used again after a reboot or a wrap-around."""

    pid: int  # also the process group's id
    start_time: str  # in the kernel's ticks since boot
    boot_id: str
