"""Validation: the metrics of a model on a trial's validation data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch

from mnist_trials.errors import DataError, TrialError
from mnist_trials.training.context import TrialContext
from mnist_trials.training.datasets import make_feed, pair_of
from mnist_trials.training.feeds import Feed
from mnist_trials.training.metrics import Accumulator, Untouched, without_weights
from mnist_trials.training.session import place_metrics, prepare_model
from mnist_trials.training.trial import Trial


def evaluate(trial: Trial, context: TrialContext) -> dict[str, float]:
    """The metrics of `trial`'s model, as it is now, on the whole of its validation data.

    The model is built if the trial has none yet; `load_trial` gives a trial with the weights of a checkpoint.

    Raises:
        TrialError: the trial breaks the rules of the Trial interface.
        DataError: there is no data.
    """
    validation = pair_of(trial.build_data())[1]
    model = prepare_model(trial, context) if trial._model is None else trial.model
    place_metrics(trial, context)
    return run_validation(trial, model, make_feed(validation, context, training=False), context)


def run_validation(
    trial: Trial, model: torch.nn.Module, feed: Feed, context: TrialContext, limit: int | None = None
) -> dict[str, float]:
    """The metrics over the first `limit` batches of `feed` (None: all), weighted by samples.

    Over all ranks, and the same on each. A collective.
    """
    metrics = Accumulator("evaluate_batch")
    execution = context.execution
    execution.align_buffers(model)
    autocast = execution.autocast()
    batches = 0
    with evaluation_mode(model), torch.no_grad():
        for batches, (batch, size, whole) in enumerate(islice(feed.open(0, 0), limit), start=1):
            untouched = Untouched(trial) if size == 0 and whole > 0 else None
            if autocast is None:
                result = trial.evaluate_batch(batch, batches - 1)
            else:
                with autocast:
                    result = trial.evaluate_batch(batch, batches - 1)
            result = _checked(result)
            if untouched is not None:
                untouched.put_back()
                result = without_weights(result)
            metrics.add(result, size)
            context.beat()
    if not batches:
        raise DataError("The validation data gave no batch.")
    return metrics.finish(execution)


def _checked(result: Any) -> Mapping[str, Any]:
    if isinstance(result, Mapping) and result:
        return result
    raise TrialError(
        "evaluate_batch must return a dict of metrics by name, such as {'validation_loss': loss}; it returned "
        f"{'an empty one' if isinstance(result, Mapping) else type(result).__name__}."
    )


@contextmanager
def evaluation_mode(model: torch.nn.Module) -> Iterator[None]:
    """`model` in eval mode for the time of a `with` block; then every module is in the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
