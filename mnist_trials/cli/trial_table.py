"""Trials as rows of a table, with the hyperparameters that tell them apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mnist_trials.store.rows import ExperimentRow, TrialRow

Table = tuple[list[str], list[Sequence[object]]]
"""A header and its rows."""


def trial_table(experiment: ExperimentRow, trials: Sequence[TrialRow]) -> Table:
    """`trials` in their order. What the config holds constant is left out, unless there is nothing else."""
    values = [dict(flat(trial.hparams)) for trial in trials]
    every = list(dict.fromkeys(name for row in values for name in row))
    constant = constants(experiment.config)
    names = [name for name in every if name not in constant] or every
    header = ["trial", "state", "batches", "epochs", f"best {experiment.config['searcher']['metric']}", "restarts"]
    rows: list[Sequence[object]] = [
        (
            f"{trial.experiment_id}.{trial.trial_id}",
            "STOPPED EARLY" if trial.stopped_early and trial.state.ended else trial.state,
            trial.batches,
            trial.epochs,
            trial.best_metric,
            trial.restarts,
            *(row.get(name) for name in names),
        )
        for trial, row in zip(trials, values, strict=True)
    ]
    return [*header, *names], rows


def constants(config: Mapping[str, Any]) -> frozenset[str]:
    """The hyperparameters that are the same in every trial, by dotted path."""
    return frozenset(name for name, _ in flat(config.get("hyperparameters", {})))  # a range is a map, flattened too


def hyperparameters_text(values: Mapping[str, Any], without: frozenset[str] = frozenset()) -> str:
    """`lr 0.1  net.hidden 32`, those in `without` left out where there are others."""
    every = dict(flat(values))
    told = {name: value for name, value in every.items() if name not in without} or every
    shown = ((name, f"{value:.6g}" if isinstance(value, float) else value) for name, value in told.items())
    return "  ".join(f"{name} {value}" for name, value in shown) or "no hyperparameters"


def flat(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested maps by dotted path."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def best_first(experiment: ExperimentRow, trials: Sequence[TrialRow]) -> list[TrialRow]:
    """`trials` by their best metric, of equals the first; those without one last."""
    sign = 1 if experiment.config["searcher"]["smaller_is_better"] else -1
    worst = float("inf")
    return sorted(trials, key=lambda t: worst if t.best_metric is None else sign * t.best_metric)


def is_search(experiment: ExperimentRow) -> bool:
    """Whether the experiment has a searcher that makes several trials; with --test it makes one."""
    return experiment.config["searcher"].get("name", "single") != "single" and not experiment.options.get("test")
