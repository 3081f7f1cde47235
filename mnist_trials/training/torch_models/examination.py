"""Evaluating a torch model batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import torch

from mnist_trials.errors import TrialError
from mnist_trials.training.context import TrialContext
from mnist_trials.training.data.feeds import Share
from mnist_trials.training.learning import Examine
from mnist_trials.training.measures.metrics import Accumulator, Untouched, without_weights
from mnist_trials.training.torch_models.padding import BySample
from mnist_trials.training.trial import Trial


class Evaluator(Protocol):
    """Calls a trial's `evaluate_batch`, or does what that would."""

    def evaluate_batch(self, batch: Any, size: int, batch_idx: int) -> Any:
        """The metrics of the first `size` samples of `batch`."""


@contextmanager
def examining(
    trial: Trial, model: torch.nn.Module, context: TrialContext, evaluator: Evaluator | None = None
) -> Iterator[Examine]:
    """The time of a validation of `model`, which is in eval mode and without gradients meanwhile.

    `evaluator` knows from one validation to the next how batches are evaluated that were filled up, or by programs.
    """
    execution = context.execution
    if evaluator is None:
        evaluator = BySample(trial, execution, context.notice)
    execution.align_buffers(model)
    autocast, flush = execution.autocast(), execution.flusher()

    def examine(share: Share, index: int, metrics: Accumulator) -> None:
        batch, size, whole = share
        untouched = Untouched(trial) if size == 0 and whole > 0 else None
        if autocast is None:
            result = evaluator.evaluate_batch(batch, size, index)
        else:
            with autocast:
                result = evaluator.evaluate_batch(batch, size, index)
        result = _checked(result)
        if untouched is not None:
            untouched.put_back()
            result = without_weights(result)
        metrics.add(result, size)
        if flush is not None:
            flush()

    with _evaluation_mode(model), torch.no_grad():
        yield examine


def _checked(result: Any) -> Mapping[str, Any]:
    if isinstance(result, Mapping) and result:
        return result
    raise TrialError(
        "evaluate_batch must return a dict of metrics by name, such as {'validation_loss': loss}; it returned "
        f"{'an empty one' if isinstance(result, Mapping) else type(result).__name__}."
    )


@contextmanager
def _evaluation_mode(model: torch.nn.Module) -> Iterator[None]:
    """`model` in eval mode for the time of a `with` block; then every module is in the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
