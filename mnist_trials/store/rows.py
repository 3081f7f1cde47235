"""What the store holds, as records. Times are wall-clock seconds, for display only; order is by `id` or `sequence`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

from mnist_trials.records import (
    ErrorInfo,
    ExperimentState,
    Histogram,
    MetricValues,
    Outcome,
    ProcessIdentity,
    TrialState,
)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentRow:
    """One experiment."""

    id: int
    name: str
    state: ExperimentState
    config: Mapping[str, Any]
    options: Mapping[str, Any]  # what `create` was given besides the config: slots, data_root, test, launcher
    progress: float
    message: str  # why it is in this state, where that needs saying
    created: float
    ended: float | None
    wall_seconds: float  # running time summed over all controllers, by the monotonic clock


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRow:
    """One trial. What has a default has that where the trial has just been made."""

    experiment_id: int
    trial_id: int
    state: TrialState
    hparams: Mapping[str, Any]
    seed: int
    batches: int = 0
    epochs: float = 0.0
    records: int = 0
    total_batches: int | None = None
    restarts: int = 0
    stopped_early: bool = False
    dataset: str = ""
    dataset_fallback: bool = False
    best_metric: float | None = None
    best_batches: int | None = None
    best_metrics: MetricValues = field(default_factory=dict)
    best_checkpoint: str | None = None
    latest_checkpoint: str | None = None
    error: ErrorInfo | None = None
    message: str = ""  # why it waits or ended, where that needs saying
    judged_batches: int = -1  # the last validation the searcher was told of; -1: none yet
    stop_requested: bool = False  # the searcher has stopped it; it ends as soon as its state is saved
    until: int | None = None  # how far it may train for now, in the searcher's unit; None: to the end
    resting: bool = False  # the searcher has paused it; it leaves its slots as soon as its state is saved
    source_trial: int | None = None  # the trial whose weights it starts with
    source_batches: int = 0  # ... as they were after so many batches


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """One attempt of a trial. What has a default has that as long as its workers have said nothing."""

    trial_id: int
    run: int
    outcome: Outcome | None = None  # None: running, or its process was killed
    start_batches: int = 0
    batches: int = 0
    backend: str = ""
    device: str = ""
    slots: tuple[str, ...]
    exit_codes: tuple[int | None, ...] = ()
    error: ErrorInfo | None = None
    started: float
    ended: float | None = None
    processes: tuple[ProcessIdentity, ...] = ()  # of the run's process groups, one per rank


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRow:
    """One unit of this machine that a run holds: a CPU core (`cpu.0`), or a slot of another kind (`cuda:0`).

    It counts while the experiment has a controller.
    """

    unit: str
    experiment_id: int
    trial_id: int
    run: int


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingRow:
    """An experiment that waits for units which others hold. It counts while the experiment has a controller."""

    experiment_id: int
    trial_id: int  # the trial that is to start
    place: int  # its place in the queue: the lowest is first
    since: float
    slots: int  # how many the trial takes
    units: frozenset[str]  # those of which it can use some
    text: str  # what it waits for, for a person


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class MetricRow:
    """Metrics of one trial at one point. `kind` is "training" or "validation"."""

    trial_id: int
    run: int
    kind: str
    batches: int
    epochs: float
    records: int
    metrics: MetricValues
    seconds: float
    time: float


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class HistogramRow:
    """Histograms of one trial at one point."""

    trial_id: int
    run: int
    batches: int
    epochs: float
    records: int
    histograms: tuple[Histogram, ...]
    time: float


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRow:
    """One checkpoint. `state` is "COMPLETED", "DAMAGED", "DELETING" (given up, still to be deleted) or "DELETED"."""

    uuid: str
    experiment_id: int
    trial_id: int
    run: int
    state: str
    batches: int
    epochs: float
    records: int
    metrics: MetricValues
    bytes: int
    location: str
    created: float
    verified: bool = False  # it was found to be whole where it lies, after it was stored


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeRow:
    """Something that was said to a person, kept in the record. `trial_id` None: of the whole experiment."""

    trial_id: int | None
    message: str
    time: float


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRow:
    """What the searcher was told and what it decided. `id` and `sequence` order decisions within the store."""

    id: int
    sequence: int
    trial_id: int | None  # None: told of no trial (the start of the search)
    event: str  # the method of the searcher that was called
    reason: str  # of a failure: "error" or "invalid_hp"; else empty
    units: int | None  # of a validation, in the searcher's unit
    metric: float | None
    actions: tuple[Mapping[str, Any], ...]  # such as {"action": "Stop", "trial_id": 1, "why": {...}}
    time: float
