"""What a worker (or the launcher that started it) tells the controller, and what it may be asked.

Events are the only thing that flows from a worker. They are plain records that survive JSON unchanged:
`from_json(to_json(event)) == event`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, final

from mnist_trials.records import CheckpointInfo, ErrorInfo, Histogram, MetricValues, Outcome, ProcessIdentity


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Base of all events: which trial, which run (attempt, from 1) of it, which rank."""

    trial_id: int
    run: int
    rank: int = 0


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class WorkersLaunched(Event):
    """From the launcher: the processes exist. Lets a later controller reap them if this one dies."""

    processes: tuple[ProcessIdentity, ...] = ()


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TrialStarted(Event):
    """The worker is about to train."""

    pid: int
    host: str
    backend: str
    device: str
    batches: int  # where it goes on from; 0 = from the start
    checkpoint: str | None  # the uuid it was restored from


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetChosen(Event):
    """The data set this trial really trains on. `fallback` says that it is not the one asked for first."""

    dataset: str
    detail: str
    fallback: bool = False


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Notice(Event):
    """Something a person must be told, and that belongs in the record (a fallback, a replaced checkpoint)."""

    message: str


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressReported(Event):
    """How far training is; sent a few times a second at most and not kept as history."""

    batches: int
    epochs: float
    records: int
    total_batches: int | None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsReported(Event):
    """Training metrics over one reporting period, weighted by samples."""

    batches: int
    epochs: float
    records: int
    metrics: MetricValues
    seconds: float  # time spent in this period


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationCompleted(Event):
    """Validation metrics, weighted by samples, after `batches` of training."""

    batches: int
    epochs: float
    records: int
    metrics: MetricValues
    seconds: float


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TrialTested(Event):
    """Metrics of the test set, made once when training is complete, with the weights of the best checkpoint."""

    batches: int  # after which the checkpoint was saved
    epochs: float
    records: int
    checkpoint: str
    metrics: MetricValues
    seconds: float


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class HistogramsReported(Event):
    """What `watch` asks for: parameters after `batches` of training, gradients of the last update before clipping."""

    batches: int
    epochs: float
    records: int
    histograms: tuple[Histogram, ...]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSaved(Event):
    """A checkpoint lies complete in its storage; it exists once the controller has stored this event."""

    checkpoint: CheckpointInfo


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRejected(Event):
    """A checkpoint did not match its manifest and was not used."""

    uuid: str
    reason: str


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TrialHeld(Event):
    """The trial has trained as far as it may for now, is validated and saved there, and waits for word.

    It is answered with one `GoOn` or one `StopRequest`, on every rank.
    """

    batches: int


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TrialExited(Event):
    """The worker's last word: how this run ended."""

    outcome: Outcome
    batches: int
    error: ErrorInfo | None = None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class WorkersExited(Event):
    """From the launcher, exactly once and last: every process of this run is gone.

    `exit_codes` by rank; negative = ended by that signal; None = unknown. `reason` says what the launcher knows
    when the processes could not be started at all.
    """

    exit_codes: tuple[int | None, ...]
    reason: str | None = None


_EVENTS: dict[str, type[Event]] = {
    cls.__name__: cls
    for cls in (
        WorkersLaunched,
        TrialStarted,
        DatasetChosen,
        Notice,
        ProgressReported,
        MetricsReported,
        ValidationCompleted,
        TrialTested,
        HistogramsReported,
        CheckpointSaved,
        CheckpointRejected,
        TrialHeld,
        TrialExited,
        WorkersExited,
    )
}


def to_json(event: Event) -> dict[str, Any]:
    """A strict-JSON form of `event` (no NaN, no infinities)."""
    return {"type": type(event).__name__, **asdict(event)}


def from_json(document: Mapping[str, Any]) -> Event:
    """The event behind `to_json`'s document.

    Raises:
        ValueError: the type is unknown, or fields are missing or left over.
    """
    values = dict(document)
    name = values.pop("type", None)
    cls = _EVENTS.get(str(name))
    if cls is None:
        raise ValueError(f"no event is called {name!r}")
    known = {f.name for f in fields(cls)}
    if left_over := set(values) - known:
        raise ValueError(f"{name} has no field {sorted(left_over)}")
    if values.get("error") is not None:
        values["error"] = ErrorInfo(**values["error"])
    if "outcome" in values:
        values["outcome"] = Outcome(values["outcome"])
    if "checkpoint" in values and cls is CheckpointSaved:
        values["checkpoint"] = CheckpointInfo(**values["checkpoint"])
    if "histograms" in values:
        values["histograms"] = tuple(histogram_from_json(histogram) for histogram in values["histograms"])
    if "processes" in values:
        values["processes"] = tuple(ProcessIdentity(**process) for process in values["processes"])
    if "exit_codes" in values:
        values["exit_codes"] = tuple(values["exit_codes"])
    try:
        return cls(**values)
    except TypeError as error:
        raise ValueError(f"{name}: {error}") from error


def histogram_from_json(document: Mapping[str, Any]) -> Histogram:
    """The histogram behind `asdict`'s document."""
    return Histogram(**{**document, "counts": tuple(document["counts"])})


def finite(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """`metrics` with every value that is not finite replaced by None, as events carry them."""
    return {name: (float(value) if math.isfinite(value) else None) for name, value in metrics.items()}


@final
@dataclass(frozen=True, slots=True)
class StopRequest:
    """From the controller to a worker: finish the batch at hand, save a checkpoint, exit with this outcome."""

    outcome: Outcome
    reason: str = field(default="")


@final
@dataclass(frozen=True, slots=True)
class GoOn:
    """From the controller to a worker that is held: train until there are `until` units in all; None: to the end."""

    until: int | None = None


Request = StopRequest | GoOn


def request_to_json(request: Request) -> dict[str, Any]:
    """A strict-JSON form of `request`."""
    return {"type": type(request).__name__, **asdict(request)}


def request_from_json(document: Mapping[str, Any]) -> Request:
    """The request behind `request_to_json`'s document.

    Raises:
        ValueError: it is none.
    """
    match document:
        case {"type": "StopRequest", "outcome": str(outcome), "reason": str(reason)}:
            return StopRequest(Outcome(outcome), reason)
        case {"type": "GoOn", "until": int() | None as until}:
            return GoOn(until)
    raise ValueError(f"no request is written as {dict(document)}")
