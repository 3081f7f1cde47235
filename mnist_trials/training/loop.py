"""The training loop."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final, final

import torch

from mnist_trials.clock import Clock
from mnist_trials.events import StopRequest
from mnist_trials.records import CheckpointInfo
from mnist_trials.training import checkpoints, saving
from mnist_trials.training.agreement import first_of
from mnist_trials.training.evaluation import run_validation
from mnist_trials.training.feeds import Share
from mnist_trials.training.guard import LossGuard
from mnist_trials.training.judge import Judge
from mnist_trials.training.leader import Leader
from mnist_trials.training.losses import as_metrics, checked_loss
from mnist_trials.training.metrics import Untouched, without_weights
from mnist_trials.training.missed import missed_points
from mnist_trials.training.periods import Due, batches_before
from mnist_trials.training.reporter import Reporter, epochs_of, total_batches
from mnist_trials.training.saving import Saver
from mnist_trials.training.session import Session

_SEGMENT: Final = 256
"""Batches after which single loss values are folded into one tensor, whatever the periods."""

_PROGRESS_SECONDS: Final = 0.25


@final
class TrainingLoop:
    """Runs a session from its position to its end, or to a request to stop.

    It goes in segments, each as long as nothing but training can be due in it: so little is asked per batch.
    """

    def __init__(self, session: Session, clock: Clock, saved: str | None) -> None:
        """`saved` is the trial's own checkpoint of the session's position, if there is one."""
        settings = session.settings
        self.session = session
        self.checkpoint = saved
        self.stopped: StopRequest | None = None
        self._saved_at = session.position.batches if saved is not None else None  # or being saved
        self._clock = clock
        self._reporter = Reporter(session.context)
        self._guard = LossGuard(session)
        self._until = settings.until
        self._reporting = Due(session.position, settings.reporting_period)
        self._validation = Due(
            session.position,
            settings.validation_period,
            None if settings.own_validation_period else settings.validate_at,
        )
        self._checkpointing = Due(session.position, settings.checkpoint_period)
        self._total_batches = total_batches(settings, session.stream)
        self._next_progress = clock.monotonic()  # at the first batch: how long training will be is known from then on
        self._training_seconds = 0.0  # in the open reporting period
        self._data_seconds = 0.0  # waited for data, if profiled
        self._snapshot_seconds = 0.0  # in which what is to be saved was copied
        self._judge = Judge(session)
        context = session.context
        self._ranks = context.execution.ranks
        self._together = self._ranks.layout.size > 1
        # Who tries a trial out is to hear at once that its storage does not work.
        self._saver = Saver(context, clock, self._tell_saved, () if settings.test_mode else saving.PAUSES)
        self._leader = (
            Leader(self._ranks, context.channel, clock, context.beat, lambda: self._saver.news)
            if self._together
            else None
        )
        self._agrees = any(self._ranks.gather(session.callbacks.present))  # whether there is a callback on any rank
        self._stop_reason: str | None = None  # of a callback of any rank
        self._untouched: Untouched | None = None  # while the batch at hand counts nothing
        self._agree()  # one that was restored may have ended training before

    def run(self) -> None:
        """Train; `stopped` tells whether a request ended it. `Trainer.fit` says what happens in which order."""
        session = self.session
        session.model.train()
        self._call("on_training_start")
        self._tell_missed_points()
        if session.settings.initial_validation and session.position.batches == 0 and session.validated_at is None:
            self._validate()
        while not self._finished() and self.stopped is None:
            if self._until is not None and session.position.reached(self._until):
                self._hold()
                continue
            if session.position.batch_in_epoch == 0:
                self._call("on_epoch_start", session.position.epochs)
            self._train_segment()
        if self._finished():
            self.stopped = None
            self._complete()
        else:
            self._save()
            self._saver.settle()
        if self._leader is not None:
            self._leader.finish()
        self._call("on_training_end")

    def _call(self, hook: str, *arguments: Any) -> None:
        """Call `hook` of the callbacks, on every rank, and learn whether one of them ends training."""
        self.session.callbacks.call(hook, *arguments)
        self._agree()

    def _agree(self) -> None:
        if self._agrees:
            self._stop_reason = first_of(self._ranks, self.session.callbacks.stop_reason)

    def _finished(self) -> bool:
        return self._full_length() or self._stop_reason is not None

    def _full_length(self) -> bool:
        length = self.session.settings.max_length
        return length is not None and self.session.position.reached(length)

    def _hold(self) -> None:
        """Wait, where the searcher decides whether the trial goes on, until it has."""
        session = self.session
        if session.validated_at != session.position.batches:
            self._validate()
            if self._finished():  # by a callback
                return
        self._save()
        self._saver.settle()
        self.report_progress()
        self._reporter.held(session.position)
        word = (self._leader or session.context.channel).wait_for_word()
        if isinstance(word, StopRequest):
            self.stopped = word
            return
        unit = session.settings.counted_in
        assert unit is not None
        self._until = None if word.until is None else unit(word.until)
        self._tell_missed_points()

    def _tell_missed_points(self) -> None:
        session = self.session
        if text := missed_points(session.settings, session.stream, session.position, self._until):
            session.context.notice(text)

    def _train_segment(self) -> None:
        session = self.session
        position = session.position
        started = self._clock.monotonic()
        trained = self._train(self._segment_length())
        self._training_seconds += self._clock.monotonic() - started
        session.training_metrics.fold()
        epoch_ended = session.stream.advance(trained, position)
        if epoch_ended:
            self._guard.check()
            position.epochs += 1
            position.batch_in_epoch = 0
        if epoch_ended or self._full_length():
            session.stepper.finish_group()
        session.schedules.step("batch")
        if epoch_ended:
            position.steps_before_epoch = session.stepper.steps
            session.schedules.step("epoch")
        self._do_what_is_due(epoch_ended)

    def _do_what_is_due(self, epoch_ended: bool) -> None:
        session = self.session
        self._hear_of_save()
        if self._reporting.arrive(session.position):
            self._report()
        if epoch_ended:
            self._call("on_epoch_end", session.position.epochs - 1)
        if self._validation.arrive(session.position):
            self._validate()
        if self._checkpointing.arrive(session.position) and not self._finished():
            self._save()

    def _segment_length(self) -> int:
        session = self.session
        position, largest = session.position, session.stream.largest_batch
        ends = [end for end in (session.settings.max_length, self._until) if end is not None]
        bounds = [
            _SEGMENT,
            session.stream.ready(position),
            *(batches_before(position, type(end), end.value, largest) for end in ends),
            *(
                due.batches_before(position, largest)
                for due in (self._reporting, self._validation, self._checkpointing)
            ),
        ]
        return min(bound for bound in bounds if bound is not None)

    def _train(self, count: int) -> int:
        """Train on `count` batches, or fewer if a request comes; returns how many it were.

        Schedules per batch are left to be stepped for the last one: it may yet complete a group.
        """
        session, position, scheduled = self.session, self.session.position, self.session.schedules.has("batch")
        stepper, context = session.stepper, session.context
        train_batch, learn, gather = session.trial.train_batch, stepper.learn, session.training_metrics.add
        autocast, stop_requested = context.execution.autocast(), (self._leader or context.channel).stop_requested
        skips, now, epoch = session.settings.on_nan == "skip", self._clock.monotonic, position.epochs
        bell = self._leader or self._saver
        batches = self._batches()
        for done in range(1, count + 1):
            if scheduled and done > 1:
                session.schedules.step("batch")
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
            position.batches += 1
            position.batch_in_epoch += 1
            position.records += whole
            self.stopped = stop_requested()
            if self.stopped is not None or bell.news:
                return done
            if now() >= self._next_progress:
                self.report_progress()
        return count

    def _batches(self) -> Iterator[Share]:
        batches = self.session.stream.batches()
        if self.session.settings.profiling:
            batches = self._timed(batches)
        return self._shared(batches) if self._together else batches

    def _shared(self, batches: Iterator[Share]) -> Iterator[Share]:
        """Prepare for what each batch counts on this rank."""
        session = self.session
        for batch, size, whole in batches:
            session.stepper.batch_is(size, whole)
            self._untouched = Untouched(session.trial) if size == 0 and whole > 0 else None
            yield batch, size, whole

    def _forget(self, metrics: dict[str, Any]) -> dict[str, Any]:
        """What is left of the metrics of a batch that counts nothing."""
        assert self._untouched is not None
        self._untouched.put_back()
        return without_weights(metrics)

    def _not_finite(self, loss: torch.Tensor, weight: float) -> bool:
        """Whether the loss of any rank is not, though it counts: all leave the batch out then."""
        return self._ranks.sum(0.0 if weight == 0 or math.isfinite(loss.item()) else 1.0) > 0

    def _timed(self, batches: Iterator[Share]) -> Iterator[Share]:
        while True:
            started = self._clock.monotonic()
            batch = next(batches)
            self._data_seconds += self._clock.monotonic() - started
            yield batch

    def _leave_out(self) -> None:
        self._guard.leave_out()
        self.session.stepper.leave_out()

    def _epochs(self) -> float:
        return epochs_of(self.session.position, self.session.stream)

    def report_progress(self) -> None:
        """Say how far training is."""
        self._reporter.progress(self.session.position, self._epochs(), self._total_batches)
        self._next_progress = self._clock.monotonic() + _PROGRESS_SECONDS

    def _report(self) -> None:
        session = self.session
        self._guard.check()
        metrics = session.training_metrics.finish(session.context.execution)
        self._guard.reset()
        if session.settings.profiling:
            batches = session.position.batches - session.position.reported
            metrics["profiling_batches_per_second"] = batches / max(self._training_seconds, 1e-9)
            metrics["profiling_data_seconds"] = self._data_seconds
            metrics["profiling_snapshot_seconds"] = self._snapshot_seconds
            metrics["profiling_save_wait_seconds"] = self._saver.waited
        session.position.reported = session.position.batches
        self._reporter.trained(session.position, self._epochs(), metrics, self._training_seconds)
        self._training_seconds = self._data_seconds = self._snapshot_seconds = self._saver.waited = 0.0
        self._agree()  # train_batch may have ended training by a callback

    def _validate(self) -> None:
        session = self.session
        settings = session.settings
        self._guard.check()
        self._call("on_validation_start")
        started = self._clock.monotonic()
        metrics = run_validation(
            session.trial,
            session.model,
            session.validation,
            session.context,
            limit=1 if settings.test_mode else None,
        )
        session.validated_at, session.validation_metrics = session.position.batches, metrics
        self._saved_at = None  # a checkpoint of this point does not know this validation
        self._reporter.validated(session.position, self._epochs(), metrics, self._clock.monotonic() - started)
        value = self._judge.value(metrics)
        best = value is None or session.is_best(value)
        if value is not None:
            session.schedules.validated(value)
            session.best_metric = value if best else session.best_metric
        self._call("on_validation_end", metrics)
        if settings.checkpoint_policy == "all" or (settings.checkpoint_policy == "best" and best):
            self._save()

    def _save(self) -> None:
        """Begin to save this point, if that was not done yet, once the save before it is over."""
        session = self.session
        if self._saved_at == session.position.batches:
            return
        self._guard.check()
        self._guard.check_parameters()
        self._saver.settle()
        started = self._clock.monotonic()
        self._saver.begin(*checkpoints.take(session))
        self._saved_at = session.position.batches
        self._snapshot_seconds += self._clock.monotonic() - started

    def _hear_of_save(self) -> None:
        if (self._leader or self._saver).news:
            if self._leader is not None:
                self._leader.news = False
            self._saver.look()

    def _tell_saved(self, info: CheckpointInfo) -> None:
        self.checkpoint = info.uuid
        self._reporter.saved(info)
        self._call("on_checkpoint_saved", info.uuid)

    def finish_save(self) -> None:
        """After an error: let a save that is under way come to its end, and tell it, so that it is not lost."""
        if (info := self._saver.finish_alone()) is not None:
            self.checkpoint = info.uuid
            self._reporter.saved(info)

    def _complete(self) -> None:
        session = self.session
        steps = session.stepper.steps
        session.stepper.finish_group()  # a callback may end training inside a group
        if session.stepper.steps != steps:
            session.validated_at = None
        if self._stop_reason is not None and not self._full_length():
            session.context.notice(f"Training ends after {session.position.batches} batches: {self._stop_reason}.")
        if session.position.reported < session.position.batches:
            self._report()
        if session.validated_at != session.position.batches:
            self._validate()
        self._save()
        self._saver.settle()
        if session.settings.test_mode and self.checkpoint is not None:
            checkpoints.read_back(session, self.checkpoint)
