"""The document that `create --json` and `describe --json` print."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mnist_trials.store.rows import ExperimentRow, TrialRow


def summarize(experiment: ExperimentRow, trials: Sequence[TrialRow]) -> dict[str, Any]:
    """The state of an experiment as strict JSON values."""
    datasets = sorted({trial.dataset for trial in trials if trial.dataset})
    return {
        "experiment_id": experiment.id,
        "name": experiment.name,
        "state": experiment.state.value,
        "dataset": ", ".join(datasets),
        "trials": [_trial(trial) for trial in trials],
        "best": _best(experiment, trials),
        "wall_seconds": experiment.wall_seconds,
    }


def _trial(trial: TrialRow) -> dict[str, Any]:
    return {
        "trial_id": trial.trial_id,
        "state": trial.state.value,
        "hyperparameters": dict(trial.hparams),
        "batches": trial.batches,
        "epochs": trial.epochs,
        "restarts": trial.restarts,
        "stopped_early": trial.stopped_early,
        "best_metric": trial.best_metric,
        "latest_checkpoint": trial.latest_checkpoint,
    }


def best_trial(experiment: ExperimentRow, trials: Sequence[TrialRow]) -> TrialRow | None:
    """The trial with the best validation so far, the first of equals; None where none has a finite metric."""
    with_metric = [trial for trial in trials if trial.best_metric is not None]
    sign = 1 if experiment.config["searcher"]["smaller_is_better"] else -1
    return min(with_metric, key=lambda trial: sign * (trial.best_metric or 0.0), default=None)


def _best(experiment: ExperimentRow, trials: Sequence[TrialRow]) -> dict[str, Any] | None:
    best = best_trial(experiment, trials)
    if best is None:
        return None
    return {
        "trial_id": best.trial_id,
        "metric": experiment.config["searcher"]["metric"],
        "value": best.best_metric,
        "metrics": dict(best.best_metrics),
        "hyperparameters": dict(best.hparams),
        "checkpoint": best.best_checkpoint,
    }
