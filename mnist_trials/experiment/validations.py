"""What a validation means for the search: what the searcher is told of it, and whether the trial has had enough."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from functools import partial
from typing import final

from mnist_trials.config import ExperimentConfig
from mnist_trials.errors import MnistTrialsError
from mnist_trials.events import MetricsReported, ProgressReported, ValidationCompleted
from mnist_trials.experiment.decisions import Decisions
from mnist_trials.experiment.ledger import Step
from mnist_trials.experiment.live import LiveTrial
from mnist_trials.experiment.measure import Measure

_ALONE = "single"  # the searcher that judges no trial, so that it can do without the metric

SayTo = Callable[[Step, LiveTrial, str], None]


@final
class UnknownMetric(MnistTrialsError):
    """No validation reports the metric by which the searcher judges."""


@final
class Validations:
    """Passes validations on to the searcher."""

    def __init__(self, config: ExperimentConfig, decisions: Decisions, say: SayTo, *, begun: bool) -> None:
        """`begun`: the searcher has been told of a validation of this experiment. `say` tells a person of a trial."""
        self._searcher = config.searcher.name
        self._metric = config.searcher.metric
        self._sets_its_own_length = bool(config.entrypoint.command)
        self._measure = Measure(config)
        self._decisions = decisions
        self._say = say
        self._begun = begun

    def take(self, step: Step, trial: LiveTrial, event: ValidationCompleted) -> None:
        """Tell the searcher of a validation, and end the trial where its time is up.

        Raises:
            UnknownMetric: it is the first of the experiment, and lacks the metric that the searcher needs.
        """
        if self._metric not in event.metrics:
            self._note_missing(step, trial, event)
        self._begun = True
        units = self._measure.units(event)
        if units is None:
            self._note_time_missing(step, trial, event)
        elif not self._is_out_of_time(trial):
            self._decisions.validated(step, trial, event.batches, units, event.metrics.get(self._metric))
        self.steer(step, trial)

    def steer(self, step: Step, trial: LiveTrial) -> None:
        """Have the workers do what the searcher wants, or end where their time is up.

        After a validation; and when a run begins, as the one before may have been cut off before it did that.
        """
        step.then(trial.steer)
        if self._is_out_of_time(trial):
            step.then(partial(trial.enough, "its time, searcher.max_time, is up"))

    def check_length(
        self, step: Step, trial: LiveTrial, event: ProgressReported | MetricsReported | ValidationCompleted
    ) -> None:
        """End a trial whose command trains longer than `searcher.max_length` says."""
        if self._sets_its_own_length and self._measure.is_too_long(event):
            step.then(partial(trial.enough, "it has trained for longer than searcher.max_length"))

    def _is_out_of_time(self, trial: LiveTrial) -> bool:
        return self._measure.is_out_of_time(trial.judged_units)

    def _note_time_missing(self, step: Step, trial: LiveTrial, event: ValidationCompleted) -> None:
        if not trial.time_missing:
            trial.time_missing = True
            self._say(step, trial, _no_time(self._measure.time_metric, event.metrics))

    def _note_missing(self, step: Step, trial: LiveTrial, event: ValidationCompleted) -> None:
        if self._searcher != _ALONE and not self._begun:
            raise UnknownMetric(
                _no_metric(self._metric, f"by which the searcher '{self._searcher}' judges trials", event.metrics)
            )
        if not trial.metric_missing:
            trial.metric_missing = True
            so = "so no trial is the best" if self._searcher == _ALONE else "which counts as the worst of all"
            self._say(step, trial, _no_metric(self._metric, so, event.metrics))


def _no_metric(metric: str, so: str, reported: Iterable[str]) -> str:
    return f"validation does not report searcher.metric '{metric}', {so}.{_instead(metric, reported)}"


def _no_time(metric: str | None, reported: Iterable[str]) -> str:
    return (
        f"validation does not report a finite searcher.time_metric '{metric}', so the searcher is not told of it."
        f"{_instead(str(metric), reported)}"
    )


def _instead(metric: str, reported: Iterable[str]) -> str:
    names = sorted(reported)
    near = difflib.get_close_matches(metric, [name for name in names if name != metric], n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return f"{hint} Reported: {', '.join(names) or 'none'}."
