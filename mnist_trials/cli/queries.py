"""`list`, `describe`, `trials`, `metrics`, `checkpoints`: what the store holds."""

from __future__ import annotations

import argparse
import csv
import io
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mnist_trials.cli import lookup
from mnist_trials.cli.command import Command, Invocation
from mnist_trials.cli.report import Standing, error_lines, experiment_lines
from mnist_trials.cli.screen import Screen, duration, metrics_text
from mnist_trials.errors import UsageError

if TYPE_CHECKING:
    from mnist_trials.store.rows import ExperimentRow, MetricRow, TrialRow

_GROUP = "Look"


def _list(call: Invocation) -> int:
    with lookup.reading(call) as reader:
        experiments = reader.experiments()
        counts = reader.trial_counts()
    if call.screen.json:
        call.screen.document([_experiment_document(row, counts.get(row.id, 0)) for row in experiments])
        return 0
    if not experiments:
        call.screen.say("No experiments yet. `mnist-trials init DIR` writes a project to start from.")
        return 0
    call.screen.table(
        ["id", "name", "state", "trials", "progress", "running time", "created"],
        [
            (
                row.id,
                row.name,
                row.state,
                counts.get(row.id, 0),
                f"{100 * row.progress:.0f} %",
                duration(row.wall_seconds),
                _date(row.created),
            )
            for row in experiments
        ],
    )
    return 0


def _describe(call: Invocation) -> int:
    with lookup.reading(call) as reader:
        standing = Standing.read(reader, call.arguments.experiment)
        notices = reader.notices(standing.experiment.id)
    if call.screen.json:
        call.screen.document(standing.summary)
        return 0
    told = [*_description(standing.experiment), *(f"  {line}" for line in error_lines(standing))]
    for line in [*experiment_lines(standing), *told]:
        call.screen.say(line)
    if notices:
        call.screen.say("notices:")
        for notice in notices:
            where = "" if notice.trial_id is None else f"trial {standing.experiment.id}.{notice.trial_id}: "
            call.screen.say(f"  {_date(notice.time)}  {where}{notice.message}")
    return 0


def _description(experiment: ExperimentRow) -> list[str]:
    """What the config says of the experiment for people."""
    config = experiment.config
    told = {
        "project": config.get("project"),
        "labels": ", ".join(config.get("labels") or ()),
        "about": " ".join((config.get("description") or "").split()),
    }
    return [f"  {name:<11} {text}" for name, text in told.items() if text]


def _trials(call: Invocation) -> int:
    with lookup.reading(call) as reader:
        experiment = reader.experiment(call.arguments.experiment)
        trials = reader.trials(experiment.id)
    if call.screen.json:
        call.screen.document([_trial_document(row) for row in trials])
        return 0
    metric = str(experiment.config["searcher"]["metric"])
    names = list(dict.fromkeys(name for row in trials for name in row.hparams))
    call.screen.table(
        ["trial", "state", "batches", "epochs", f"best {metric}", "restarts", *names],
        [
            (
                f"{row.experiment_id}.{row.trial_id}",
                "STOPPED EARLY" if row.stopped_early and row.state.ended else row.state,
                row.batches,
                row.epochs,
                row.best_metric,
                row.restarts,
                *(row.hparams.get(name) for name in names),
            )
            for row in trials
        ],
    )
    return 0


def _metrics(call: Invocation) -> int:
    if call.screen.json and call.arguments.csv:
        raise UsageError("--json or --csv, not both")
    with lookup.reading(call) as reader:
        trial = lookup.find_trial(reader, call.arguments.trial)
        rows = reader.metrics(trial.experiment_id, trial.trial_id)
    if call.screen.json:
        call.screen.document(rows)
        return 0
    if call.arguments.csv:
        _print_csv(call.screen, rows)
        return 0
    names = _metric_names(rows)
    call.screen.table(
        ["kind", "batches", "epochs", *names, "seconds"],
        [
            (
                row.kind,
                row.batches,
                row.epochs,
                *(_metric_cell(row.metrics, name) for name in names),
                round(row.seconds, 3),
            )
            for row in rows
        ],
    )
    return 0


def _checkpoints(call: Invocation) -> int:
    with lookup.reading(call) as reader:
        experiment = reader.experiment(call.arguments.experiment)
        rows = reader.checkpoints(experiment.id)
    if call.screen.json:
        call.screen.document(rows)
        return 0
    call.screen.table(
        ["uuid", "trial", "batches", "epochs", "state", "size", "metrics", "location"],
        [
            (
                row.uuid,
                f"{row.experiment_id}.{row.trial_id}",
                row.batches,
                row.epochs,
                row.state,
                f"{row.bytes / 1e6:.1f} MB",
                metrics_text(row.metrics),
                row.location,
            )
            for row in rows
        ],
    )
    return 0


def _print_csv(screen: Screen, rows: Sequence[MetricRow]) -> None:
    """One line per report; a metric that was not reported there is empty, one that was not finite is `nan`."""
    names = _metric_names(rows)
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(["trial_id", "run", "kind", "batches", "epochs", "records", "seconds", "time", *names])
    for row in rows:
        values = [_csv_cell(row.metrics, name) for name in names]
        place = [row.trial_id, row.run, row.kind, row.batches, row.epochs, row.records, row.seconds, row.time]
        writer.writerow([*place, *values])
    screen.say(lines.getvalue().removesuffix("\n"))


def _metric_names(rows: Sequence[MetricRow]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row.metrics))


def _metric_cell(metrics: Mapping[str, float | None], name: str) -> float | None:
    value = metrics.get(name)
    return float("nan") if value is None and name in metrics else value


def _csv_cell(metrics: Mapping[str, float | None], name: str) -> str:
    value = _metric_cell(metrics, name)
    return "" if value is None else repr(value)


def _experiment_document(row: ExperimentRow, trials: int) -> dict[str, Any]:
    return {
        "experiment_id": row.id,
        "name": row.name,
        "state": row.state,
        "message": row.message,
        "progress": row.progress,
        "trials": trials,
        "created": row.created,
        "ended": row.ended,
        "wall_seconds": row.wall_seconds,
    }


def _trial_document(row: TrialRow) -> dict[str, Any]:
    return {
        "trial_id": row.trial_id,
        "experiment_id": row.experiment_id,
        "state": row.state,
        "message": row.message,
        "hyperparameters": row.hparams,
        "seed": row.seed,
        "batches": row.batches,
        "epochs": row.epochs,
        "records": row.records,
        "total_batches": row.total_batches,
        "restarts": row.restarts,
        "stopped_early": row.stopped_early,
        "dataset": row.dataset,
        "dataset_fallback": row.dataset_fallback,
        "best_metric": row.best_metric,
        "best_batches": row.best_batches,
        "best_metrics": row.best_metrics,
        "best_checkpoint": row.best_checkpoint,
        "latest_checkpoint": row.latest_checkpoint,
        "error": row.error,
    }


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _metrics_arguments(parser: argparse.ArgumentParser) -> None:
    lookup.add_trial(parser)
    parser.add_argument("--csv", action="store_true", help="as comma-separated values")


COMMANDS = (
    Command(name="list", group=_GROUP, summary="the experiments in the store", run=_list),
    Command(
        name="describe",
        group=_GROUP,
        summary="one experiment: state, trials, best result, notices",
        run=_describe,
        configure=lookup.add_experiment,
    ),
    Command(
        name="trials",
        group=_GROUP,
        summary="the trials of an experiment, with their hyperparameters",
        run=_trials,
        configure=lookup.add_experiment,
    ),
    Command(
        name="metrics",
        group=_GROUP,
        summary="all metrics that a trial reported",
        run=_metrics,
        configure=_metrics_arguments,
    ),
    Command(
        name="checkpoints",
        group=_GROUP,
        summary="the checkpoints of an experiment",
        run=_checkpoints,
        configure=lookup.add_experiment,
    ),
)
