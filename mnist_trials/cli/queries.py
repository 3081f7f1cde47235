"""`list`, `describe`, `trials`, `metrics`, `checkpoints`: what the store holds."""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mnist_trials.cli import lookup
from mnist_trials.cli.command import Command, Invocation
from mnist_trials.cli.report import Standing, error_lines, experiment_lines, hint
from mnist_trials.cli.screen import Screen, date, duration, metrics_text
from mnist_trials.cli.trial_table import best_first, is_search, trial_table
from mnist_trials.errors import UsageError

if TYPE_CHECKING:
    from mnist_trials.store.rows import ExperimentRow, HistogramRow, MetricRow, NoticeRow, TrialRow

_GROUP = "Look"
_TRIALS_SHOWN = 20


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
                date(row.created),
            )
            for row in experiments
        ],
    )
    return 0


def _describe(call: Invocation) -> int:
    from mnist_trials.cli.rungs import rung_lines
    from mnist_trials.experiment.leases import living

    with lookup.reading(call) as reader:
        standing = Standing.read(reader, call.arguments.experiment)
        if call.screen.json:
            call.screen.document(standing.summary)
            return 0
        notices = reader.notices(standing.experiment.id)
        rungs = rung_lines(reader, standing.experiment) if is_search(standing.experiment) else []
        waiting = living(reader.home, reader.holdings()).waiting
    number = standing.experiment.id
    waits = [
        f"  {'waiting':<11} trial {number}.{row.trial_id} {row.text}" for row in waiting if row.experiment_id == number
    ]
    told = [*waits, *_description(standing.experiment), *(f"  {line}" for line in error_lines(standing))]
    for line in [*experiment_lines(standing), *told, *rungs, *_notice_lines(number, notices)]:
        call.screen.say(line)
    return 0


def _notice_lines(experiment_id: int, notices: Sequence[NoticeRow]) -> list[str]:
    """What was said, what was said of several trials once."""
    trials: dict[str, list[int | None]] = {}
    first: dict[str, NoticeRow] = {}
    for notice in notices:
        trials.setdefault(notice.message, []).append(notice.trial_id)
        first.setdefault(notice.message, notice)
    lines = []
    for message, of in trials.items():
        more = f" and {len(of) - 1} more" if len(of) > 1 else ""
        where = "" if of[0] is None else f"trial {experiment_id}.{of[0]}{more}: "
        lines.append(f"  {date(first[message].time)}  {where}{message}")
    return ["notices:", *lines] if lines else []


def _description(experiment: ExperimentRow) -> list[str]:
    """What the config and the options say of the experiment for people."""
    from mnist_trials.experiment.warm_start import Source

    config, options = experiment.config, experiment.options
    source = Source.of(options)
    told = {
        "project": config.get("project"),
        "labels": ", ".join(config.get("labels") or ()),
        "about": " ".join((config.get("description") or "").split()),
        "forked from": f"experiment {options['forked_from']}" if "forked_from" in options else "",
        "goes on from" if source and source.whole else "starts from": "" if source is None else source.in_words(),
    }
    return [f"  {name:<11} {text}" for name, text in told.items() if text]


def _trials(call: Invocation) -> int:
    from mnist_trials.experiment.home import ExperimentFiles
    from mnist_trials.training.measures.performance import read_performance

    with lookup.reading(call) as reader:
        experiment = reader.experiment(call.arguments.experiment)
        trials = reader.trials(experiment.id)
    if call.screen.json:
        files = ExperimentFiles(reader.home, experiment.id)
        documents = [
            {**_trial_document(row), "performance": read_performance(files.trial(row.trial_id))} for row in trials
        ]
        call.screen.document(documents)
        return 0
    rows = best_first(experiment, trials) if is_search(experiment) else trials
    shown = rows if call.arguments.all else rows[:_TRIALS_SHOWN]
    call.screen.table(*trial_table(experiment, shown))
    if len(shown) < len(rows):
        command = hint(call, f"trials {experiment.id} --all")
        call.screen.say(f"and {len(rows) - len(shown)} more: `{command}`")
    return 0


def _metrics(call: Invocation) -> int:
    if call.screen.json and call.arguments.csv:
        raise UsageError("--json or --csv, not both")
    if call.arguments.histograms and call.arguments.csv:
        raise UsageError("--histograms or --csv, not both")
    with lookup.reading(call) as reader:
        trial = lookup.find_trial(reader, call.arguments.trial)
        if call.arguments.histograms:
            return _show_histograms(call, reader.histograms(trial.experiment_id, trial.trial_id))
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


def _show_histograms(call: Invocation, rows: Sequence[HistogramRow]) -> int:
    if call.screen.json:
        call.screen.document(rows)
        return 0
    if not rows:
        call.screen.say("No histograms: the config's `watch` asks for them.")
        return 0
    call.screen.table(
        ["batches", "kind", "name", "mean", "std", "minimum", "maximum", "not finite"],
        [
            (row.batches, one.kind, one.name, one.mean, one.std, one.minimum, one.maximum, one.not_finite)
            for row in rows
            for one in row.histograms
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


def _trials_arguments(parser: argparse.ArgumentParser) -> None:
    lookup.add_experiment(parser)
    parser.add_argument("--all", action="store_true", help=f"all of them, not {_TRIALS_SHOWN} at most")


def _metrics_arguments(parser: argparse.ArgumentParser) -> None:
    lookup.add_trial(parser)
    parser.add_argument("--csv", action="store_true", help="as comma-separated values")
    parser.add_argument(
        "--histograms",
        action="store_true",
        help="instead: how parameters and gradients were distributed, as `watch` asked; --json has the bins",
    )


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
        description="Those of a search come best first, without what the config holds constant; --json has all.",
        run=_trials,
        configure=_trials_arguments,
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
