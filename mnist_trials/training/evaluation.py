"""Validation: the metrics of a model on a trial's validation or test data."""

from __future__ import annotations

from contextlib import AbstractContextManager
from itertools import islice
from typing import Literal

from mnist_trials.errors import DataError
from mnist_trials.training.context import TrialContext
from mnist_trials.training.data.datasets import data_to_test, make_feed, pair_of
from mnist_trials.training.data.feeds import Feed
from mnist_trials.training.learning import Examine
from mnist_trials.training.measures.metrics import Accumulator
from mnist_trials.training.portions import examining_with, learner_of
from mnist_trials.training.session import place_metrics
from mnist_trials.training.torch_models.examination import examining
from mnist_trials.training.torch_models.models import prepare_model
from mnist_trials.training.trial import Trial

Split = Literal["validation", "test"]
"""On which of a trial's data it is evaluated."""


def evaluate(trial: Trial, context: TrialContext, split: Split = "validation") -> dict[str, float]:
    """The metrics of `trial`'s model, as it is now, on the whole of its validation data, or of its test data.

    The model is built if the trial has none yet; `load_trial` gives a trial with the weights of a checkpoint.

    Raises:
        TrialError: the trial breaks the rules of the Trial interface, or has no test data.
        DataError: there is no data.
    """
    test = data_to_test(trial) if split == "test" else None
    training, validation = (None, None) if test is not None and _is_built(trial) else pair_of(trial.build_data())
    if not _is_built(trial):
        learner = learner_of(trial, context, make_feed(training, context, training=True), learns=False)
        if learner is None:
            prepare_model(trial, context)
    place_metrics(trial, context)
    feed = make_feed(validation if test is None else test, context, training=False)
    return run_validation(_examining(trial, context), feed, context)


def _is_built(trial: Trial) -> bool:
    return trial._model is not None


def _examining(trial: Trial, context: TrialContext) -> AbstractContextManager[Examine]:
    if trial._learner is not None:
        return examining_with(trial._learner)
    return examining(trial, trial.model, context)


def run_validation(
    during: AbstractContextManager[Examine], feed: Feed, context: TrialContext, limit: int | None = None
) -> dict[str, float]:
    """The metrics over the first `limit` batches of `feed` (None: all), weighted by samples.

    Over all ranks, and the same on each. A collective.

    Raises:
        TrialError: the trial breaks the rules of the Trial interface.
        DataError: there is no data.
    """
    metrics = Accumulator("evaluate_batch", context.execution)
    batches = 0
    with during as examine:
        for share in islice(feed.open(0, 0), limit):
            examine(share, batches, metrics)
            batches += 1
            context.beat()
    if not batches:
        raise DataError("The validation data gave no batch.")
    return metrics.finish()
