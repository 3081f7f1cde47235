"""Rows of the tables to records and back. JSON columns are strict JSON."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from mnist_trials.events import histogram_from_json
from mnist_trials.records import ErrorInfo, ExperimentState, Outcome, ProcessIdentity, TrialState
from mnist_trials.store.rows import (
    CheckpointRow,
    DecisionRow,
    ExperimentRow,
    HistogramRow,
    LeaseRow,
    MetricRow,
    NoticeRow,
    RunRow,
    TrialRow,
    WaitingRow,
)

Columns = dict[str, str | int | float | bytes | None]


def to_text(value: object) -> str:
    """Strict JSON; mappings that are no dicts are taken as dicts.

    Raises:
        ValueError: there is a NaN or an infinity in it.
    """
    return _ENCODER.encode(value)


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence):
        return list(value)
    raise TypeError(f"{type(value).__name__} is no JSON value")


# `json.dumps` would make one at every call.
_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"), default=_plain)


def _error_text(error: ErrorInfo | None) -> str | None:
    return None if error is None else to_text(asdict(error))


def _error(text: str | None) -> ErrorInfo | None:
    return None if text is None else ErrorInfo(**json.loads(text))


def experiment_row(row: sqlite3.Row) -> ExperimentRow:
    """A row of `experiments`."""
    return ExperimentRow(
        id=row["id"],
        name=row["name"],
        state=ExperimentState(row["state"]),
        config=json.loads(row["config"]),
        options=json.loads(row["options"]),
        progress=row["progress"],
        message=row["message"],
        created=row["created"],
        ended=row["ended"],
        wall_seconds=row["wall_seconds"],
    )


def trial_columns(trial: TrialRow) -> Columns:
    """`trial` as columns, all but the sequence."""
    return {
        "experiment_id": trial.experiment_id,
        "trial_id": trial.trial_id,
        "state": trial.state.value,
        "hparams": to_text(trial.hparams),
        "seed": trial.seed,
        "batches": trial.batches,
        "epochs": trial.epochs,
        "records": trial.records,
        "total_batches": trial.total_batches,
        "restarts": trial.restarts,
        "stopped_early": int(trial.stopped_early),
        "dataset": trial.dataset,
        "dataset_fallback": int(trial.dataset_fallback),
        "best_metric": trial.best_metric,
        "best_batches": trial.best_batches,
        "best_metrics": to_text(trial.best_metrics),
        "best_checkpoint": trial.best_checkpoint,
        "latest_checkpoint": trial.latest_checkpoint,
        "error": _error_text(trial.error),
        "message": trial.message,
        "judged_batches": trial.judged_batches,
        "stop_requested": int(trial.stop_requested),
        "until": trial.until,
        "resting": int(trial.resting),
        "source_trial": trial.source_trial,
        "source_batches": trial.source_batches,
    }


def trial_row(row: sqlite3.Row) -> TrialRow:
    """A row of `trials`."""
    return TrialRow(
        experiment_id=row["experiment_id"],
        trial_id=row["trial_id"],
        state=TrialState(row["state"]),
        hparams=json.loads(row["hparams"]),
        seed=row["seed"],
        batches=row["batches"],
        epochs=row["epochs"],
        records=row["records"],
        total_batches=row["total_batches"],
        restarts=row["restarts"],
        stopped_early=bool(row["stopped_early"]),
        dataset=row["dataset"],
        dataset_fallback=bool(row["dataset_fallback"]),
        best_metric=row["best_metric"],
        best_batches=row["best_batches"],
        best_metrics=json.loads(row["best_metrics"]),
        best_checkpoint=row["best_checkpoint"],
        latest_checkpoint=row["latest_checkpoint"],
        error=_error(row["error"]),
        message=row["message"],
        judged_batches=row["judged_batches"],
        stop_requested=bool(row["stop_requested"]),
        until=row["until"],
        resting=bool(row["resting"]),
        source_trial=row["source_trial"],
        source_batches=row["source_batches"],
    )


def run_columns(experiment_id: int, run: RunRow) -> Columns:
    """`run` as columns, all but the sequence."""
    return {
        "experiment_id": experiment_id,
        "trial_id": run.trial_id,
        "run": run.run,
        "outcome": None if run.outcome is None else run.outcome.value,
        "start_batches": run.start_batches,
        "batches": run.batches,
        "backend": run.backend,
        "device": run.device,
        "slots": to_text(run.slots),
        "exit_codes": to_text(run.exit_codes),
        "error": _error_text(run.error),
        "started": run.started,
        "ended": run.ended,
        "processes": to_text([asdict(process) for process in run.processes]),
    }


def run_row(row: sqlite3.Row) -> RunRow:
    """A row of `runs`."""
    return RunRow(
        trial_id=row["trial_id"],
        run=row["run"],
        outcome=None if row["outcome"] is None else Outcome(row["outcome"]),
        start_batches=row["start_batches"],
        batches=row["batches"],
        backend=row["backend"],
        device=row["device"],
        slots=tuple(json.loads(row["slots"])),
        exit_codes=tuple(json.loads(row["exit_codes"])),
        error=_error(row["error"]),
        started=row["started"],
        ended=row["ended"],
        processes=tuple(ProcessIdentity(**process) for process in json.loads(row["processes"])),
    )


def lease_columns(lease: LeaseRow) -> Columns:
    """`lease` as columns."""
    return {
        "unit": lease.unit,
        "experiment_id": lease.experiment_id,
        "trial_id": lease.trial_id,
        "run": lease.run,
    }


def lease_row(row: sqlite3.Row) -> LeaseRow:
    """A row of `leases`."""
    return LeaseRow(unit=row["unit"], experiment_id=row["experiment_id"], trial_id=row["trial_id"], run=row["run"])


def waiting_columns(waiting: WaitingRow) -> Columns:
    """`waiting` as columns."""
    return {
        "experiment_id": waiting.experiment_id,
        "trial_id": waiting.trial_id,
        "place": waiting.place,
        "since": waiting.since,
        "slots": waiting.slots,
        "units": to_text(sorted(waiting.units)),
        "text": waiting.text,
    }


def waiting_row(row: sqlite3.Row) -> WaitingRow:
    """A row of `waiting`."""
    return WaitingRow(
        experiment_id=row["experiment_id"],
        trial_id=row["trial_id"],
        place=row["place"],
        since=row["since"],
        slots=row["slots"],
        units=frozenset(json.loads(row["units"])),
        text=row["text"],
    )


def metric_columns(experiment_id: int, metric: MetricRow) -> Columns:
    """`metric` as columns, all but the sequence."""
    return {
        "experiment_id": experiment_id,
        "trial_id": metric.trial_id,
        "run": metric.run,
        "kind": metric.kind,
        "batches": metric.batches,
        "epochs": metric.epochs,
        "records": metric.records,
        "metrics": to_text(metric.metrics),
        "seconds": metric.seconds,
        "time": metric.time,
    }


def metric_row(row: sqlite3.Row) -> MetricRow:
    """A row of `metrics`."""
    return MetricRow(
        trial_id=row["trial_id"],
        run=row["run"],
        kind=row["kind"],
        batches=row["batches"],
        epochs=row["epochs"],
        records=row["records"],
        metrics=json.loads(row["metrics"]),
        seconds=row["seconds"],
        time=row["time"],
    )


def histogram_columns(experiment_id: int, row: HistogramRow) -> Columns:
    """`row` as columns, all but the sequence."""
    content = to_text([asdict(histogram) for histogram in row.histograms])
    return {
        "experiment_id": experiment_id,
        "trial_id": row.trial_id,
        "run": row.run,
        "batches": row.batches,
        "epochs": row.epochs,
        "records": row.records,
        "content": zlib.compress(content.encode("ascii")),
        "time": row.time,
    }


def histogram_row(row: sqlite3.Row) -> HistogramRow:
    """A row of `histograms`."""
    return HistogramRow(
        trial_id=row["trial_id"],
        run=row["run"],
        batches=row["batches"],
        epochs=row["epochs"],
        records=row["records"],
        histograms=tuple(map(histogram_from_json, json.loads(zlib.decompress(row["content"])))),
        time=row["time"],
    )


def checkpoint_columns(checkpoint: CheckpointRow) -> Columns:
    """`checkpoint` as columns, all but the sequence."""
    return {
        "uuid": checkpoint.uuid,
        "experiment_id": checkpoint.experiment_id,
        "trial_id": checkpoint.trial_id,
        "run": checkpoint.run,
        "state": checkpoint.state,
        "batches": checkpoint.batches,
        "epochs": checkpoint.epochs,
        "records": checkpoint.records,
        "metrics": to_text(checkpoint.metrics),
        "bytes": checkpoint.bytes,
        "location": checkpoint.location,
        "created": checkpoint.created,
        "verified": int(checkpoint.verified),
    }


def checkpoint_row(row: sqlite3.Row) -> CheckpointRow:
    """A row of `checkpoints`."""
    return CheckpointRow(
        uuid=row["uuid"],
        experiment_id=row["experiment_id"],
        trial_id=row["trial_id"],
        run=row["run"],
        state=row["state"],
        batches=row["batches"],
        epochs=row["epochs"],
        records=row["records"],
        metrics=json.loads(row["metrics"]),
        bytes=row["bytes"],
        location=row["location"],
        created=row["created"],
        verified=bool(row["verified"]),
    )


def notice_row(row: sqlite3.Row) -> NoticeRow:
    """A row of `notices`."""
    return NoticeRow(trial_id=row["trial_id"], message=row["message"], time=row["time"])


def decision_row(row: sqlite3.Row) -> DecisionRow:
    """A row of `decisions`."""
    return DecisionRow(
        id=row["id"],
        sequence=row["sequence"],
        trial_id=row["trial_id"],
        event=row["event"],
        reason=row["reason"],
        units=row["units"],
        metric=row["metric"],
        actions=tuple(json.loads(row["actions"])),
        time=row["time"],
    )
