"""What an event changes in a trial's row: pure functions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import final

from mnist_trials.events import (
    CheckpointSaved,
    HistogramsReported,
    MetricsReported,
    ProgressReported,
    TrialTested,
    ValidationCompleted,
)
from mnist_trials.records import CheckpointInfo, MetricValues
from mnist_trials.store.rows import CheckpointRow, HistogramRow, MetricRow, TrialRow

TRAINING = "training"
VALIDATION = "validation"
TEST = "test"


@final
@dataclass(frozen=True, slots=True)
class Goal:
    """What "better" means: `searcher.metric` and `searcher.smaller_is_better`."""

    metric: str
    smaller_is_better: bool

    def better(self, value: float | None, than: float | None) -> bool:
        """Whether `value` is truly better; None is the worst of all, and no better than itself."""
        if value is None:
            return False
        if than is None:
            return True
        return value < than if self.smaller_is_better else value > than


def with_progress(
    trial: TrialRow, event: ProgressReported | MetricsReported | ValidationCompleted | CheckpointInfo
) -> TrialRow:
    """`trial` as far as `event` says it has trained."""
    total = event.total_batches if isinstance(event, ProgressReported) else trial.total_batches
    return replace(trial, batches=event.batches, epochs=event.epochs, records=event.records, total_batches=total)


def with_validation(trial: TrialRow, goal: Goal, batches: int, metrics: MetricValues) -> TrialRow:
    """`trial` with a validation taken into account; the first of equally good ones stays the best."""
    value = metrics.get(goal.metric)
    if not goal.better(value, trial.best_metric):
        return trial
    return replace(trial, best_metric=value, best_batches=batches, best_metrics=metrics, best_checkpoint=None)


def with_best_of(trial: TrialRow, goal: Goal, validations: Iterable[MetricRow]) -> TrialRow:
    """`trial` with its best found anew among `validations`."""
    trial = replace(trial, best_metric=None, best_batches=None, best_metrics={}, best_checkpoint=None)
    for validation in validations:
        trial = with_validation(trial, goal, validation.batches, validation.metrics)
    return trial


def with_checkpoints(trial: TrialRow, checkpoints: Iterable[tuple[int, str]]) -> TrialRow:
    """`trial` with its latest and best checkpoint, out of (batches, uuid), oldest first.

    The best checkpoint is the one saved at the very batch of the best validation: an earlier or later one has other
    weights and would not reach that metric. None where there is no such checkpoint.
    """
    latest = best = None
    for batches, uuid in checkpoints:
        latest = uuid
        if batches == trial.best_batches:
            best = uuid
    return replace(trial, latest_checkpoint=latest, best_checkpoint=best)


def with_test(trial: TrialRow, event: TrialTested) -> TrialRow:
    """`trial` with the metrics of the test set beside those of its best validation, if that is what was tested."""
    if event.batches != trial.best_batches:
        return trial
    return replace(trial, best_metrics={**trial.best_metrics, **event.metrics})


def metric_row(event: MetricsReported | ValidationCompleted | TrialTested, time: float) -> MetricRow:
    """`event` as it is stored."""
    kinds = {MetricsReported: TRAINING, ValidationCompleted: VALIDATION, TrialTested: TEST}
    return MetricRow(
        trial_id=event.trial_id,
        run=event.run,
        kind=kinds[type(event)],
        batches=event.batches,
        epochs=event.epochs,
        records=event.records,
        metrics=event.metrics,
        seconds=event.seconds,
        time=time,
    )


def histogram_row(event: HistogramsReported, time: float) -> HistogramRow:
    """`event` as it is stored."""
    return HistogramRow(
        trial_id=event.trial_id,
        run=event.run,
        batches=event.batches,
        epochs=event.epochs,
        records=event.records,
        histograms=event.histograms,
        time=time,
    )


def checkpoint_row(experiment_id: int, event: CheckpointSaved, time: float) -> CheckpointRow:
    """`event` as it is stored."""
    info = event.checkpoint
    return CheckpointRow(
        uuid=info.uuid,
        experiment_id=experiment_id,
        trial_id=event.trial_id,
        run=event.run,
        state="COMPLETED",
        batches=info.batches,
        epochs=info.epochs,
        records=info.records,
        metrics=info.metrics,
        bytes=info.bytes,
        location=info.location,
        created=time,
    )
