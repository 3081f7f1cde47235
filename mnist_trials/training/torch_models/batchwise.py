"""Training of torch models, one batch after the other."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, final

import torch
from typing_extensions import override

from mnist_trials.clock import Clock
from mnist_trials.training.data.feeds import Share
from mnist_trials.training.learning import LookUp, Steps
from mnist_trials.training.measures.losses import as_metrics, checked_loss
from mnist_trials.training.measures.metrics import Untouched, without_weights
from mnist_trials.training.torch_models.padding import BySample
from mnist_trials.training.torch_models.schedule import Schedules
from mnist_trials.training.torch_models.stepper import Stepper

if TYPE_CHECKING:
    from mnist_trials.training.guard import LossGuard
    from mnist_trials.training.session import Session


@final
class Batchwise(Steps):
    """Calls `train_batch`, and has the stepper learn from the loss."""

    def __init__(
        self,
        session: Session,
        stepper: Stepper,
        schedules: Schedules,
        by_sample: BySample,
        guard: LossGuard,
        look_up: LookUp,
        clock: Clock,
    ) -> None:
        self._session = session
        self._stepper = stepper
        self._schedules = schedules
        self._by_sample = by_sample
        self._guard = guard
        self._look_up = look_up
        self._clock = clock
        self._execution = session.context.execution
        self._ranks = self._execution.ranks
        self._together = self._ranks.layout.size > 1
        self._fills = self._execution.static_shapes
        self._untouched: Untouched | None = None  # while the batch at hand counts nothing

    @override
    def train(self, count: int) -> int:
        session, position, scheduled = self._session, self._session.position, self._schedules.has("batch")
        stepper, look_up, flush = self._stepper, self._look_up, self._execution.flusher()
        trial = self._by_sample if self._fills else session.trial
        train_batch, learn, gather = trial.train_batch, stepper.learn, session.training_metrics.add
        autocast = self._execution.autocast()
        skips, epoch = session.settings.on_nan == "skip", position.epochs
        batches = self._batches()
        for done in range(1, count + 1):
            if scheduled and done > 1:
                self._schedules.step("batch")
            batch, size, whole = next(batches)
            if autocast is None:
                result = train_batch(batch, epoch, position.batches)
            else:
                with autocast:
                    result = train_batch(batch, epoch, position.batches)
            metrics = result if type(result) is dict else as_metrics(result, stepper.manual)
            if self._untouched is not None:
                metrics = self._forget(metrics)
            if stepper.manual:
                gather(metrics, size)
            else:
                loss = metrics.get("loss")
                weight: float = size
                weights: float = whole
                if not isinstance(loss, torch.Tensor) or not loss.requires_grad or loss.numel() != 1:
                    loss, weight = checked_loss(metrics, size)
                    weights = self._ranks.sum(weight)
                if skips and self._not_finite(loss, weight):
                    self._leave_out()
                else:
                    learn(loss, weight, weights)
                    gather(metrics, size)
            if flush is not None:
                flush()
            position.advance(1, whole)
            if look_up():
                return done
        return count

    def _batches(self) -> Iterator[Share]:
        batches = self.timed(self._session.stream.batches(), self._clock)
        if self._fills:
            batches = self._by_sample.watched(batches)
        return self._shared(batches) if self._together else batches

    def _shared(self, batches: Iterator[Share]) -> Iterator[Share]:
        """Prepare for what each batch counts on this rank."""
        for batch, size, whole in batches:
            self._stepper.batch_is(size, whole)
            self._untouched = Untouched(self._session.trial) if size == 0 and whole > 0 else None
            yield batch, size, whole

    def _forget(self, metrics: dict[str, Any]) -> dict[str, Any]:
        """What is left of the metrics of a batch that counts nothing."""
        assert self._untouched is not None
        self._untouched.put_back()
        return without_weights(metrics)

    def _not_finite(self, loss: torch.Tensor, weight: float) -> bool:
        """Whether the loss of any rank is not, though it counts: all leave the batch out then."""
        return self._ranks.sum(0.0 if weight == 0 or math.isfinite(loss.item()) else 1.0) > 0

    def _leave_out(self) -> None:
        self._guard.leave_out()
        self._stepper.leave_out()
