"""One train step and one evaluation step of a trial, looked into."""

from __future__ import annotations

from itertools import islice
from typing import Any

from mnist_trials.errors import DataError, PluginError
from mnist_trials.plugin.inspection import Inspection, StepReport
from mnist_trials.training.context import TrialContext
from mnist_trials.training.data.feeds import Share
from mnist_trials.training.inspection.layers import Layers
from mnist_trials.training.inspection.observing import BYTES_ARE, FLOPS_ARE, observed
from mnist_trials.training.measures.losses import as_metrics, checked_loss
from mnist_trials.training.measures.metrics import Accumulator
from mnist_trials.training.portions import PortionLearning
from mnist_trials.training.session import Session
from mnist_trials.training.settings import resolve
from mnist_trials.training.torch_models.learning import TorchLearning
from mnist_trials.training.trial import Trial


def inspect_trial(trial: Trial, context: TrialContext) -> Inspection:
    """What `trial` consists of: a batch is learnt from, with an update, and one is evaluated.

    The trial is spent afterwards: its weights are others.

    Raises:
        TrialError: it breaks the rules of the Trial interface.
        DataError: there is no data.
        PluginError: the backend has a learner that does not let itself be looked into.
    """
    session = open_session(trial, context)
    batch = next(session.stream.batches())
    examined = next(islice(session.validation.open(0, 0), 1), None)
    if examined is None:
        raise DataError("The validation data gave no batch.")
    learning = session.learning
    if isinstance(learning, PortionLearning):
        found = learning.learner.inspected(batch[0], batch[1], examined[0], examined[1])
        if found is None:
            raise PluginError(f"The backend '{context.spec.slot.backend}' does not tell what its steps consist of.")
        return found
    assert isinstance(learning, TorchLearning)
    layers = Layers(learning.model)
    learning.model.train()
    with layers.watched():
        _train(session, learning, batch)  # once before it is observed: optimizers make their state in the first step
    training = observed(lambda: _train(session, learning, batch), batch[1])
    seen = layers.reports()
    with layers.watched():
        evaluation = _evaluated(session, examined)
    parameters = list(learning.model.parameters())
    return Inspection(
        framework="torch",
        parameters=sum(parameter.numel() for parameter in parameters),
        trainable=sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        layers=seen,
        training=training,
        evaluation=evaluation,
        flops_are=FLOPS_ARE,
        bytes_are=BYTES_ARE,
    )


def open_session(trial: Trial, context: TrialContext) -> Session:
    """The session of a training that is not run.

    Raises:
        TrialError, DataError: as `Session` does.
    """
    settings = resolve(
        context,
        max_length=None,
        validation_period=None,
        checkpoint_period=None,
        reporting_period=None,
        checkpoint_policy=None,
        step_zero_validation=None,
        test_mode=True,
        profiling_enabled=None,
    )
    return Session(trial, context, settings)


def _train(session: Session, learning: TorchLearning, share: Share) -> None:
    """Learn from one batch, whatever the number of batches that make an update otherwise."""
    batch, size, _ = share
    stepper, autocast = learning.stepper, session.context.execution.autocast()
    if autocast is None:
        result: Any = session.trial.train_batch(batch, 0, 0)
    else:
        with autocast:
            result = session.trial.train_batch(batch, 0, 0)
    metrics = as_metrics(result, stepper.manual)
    if not stepper.manual:
        loss, weight = checked_loss(metrics, size)
        stepper.learn(loss, weight, weight)
        stepper.finish_group()


def _evaluated(session: Session, share: Share) -> StepReport:
    metrics = Accumulator("evaluate_batch", session.context.execution)
    with session.learning.examining() as examine:
        return observed(lambda: examine(share, 0, metrics), share[1])
