"""The training loop."""

from __future__ import annotations

from typing import Any, Final, final

from mnist_trials.clock import Clock
from mnist_trials.errors import CheckpointError
from mnist_trials.events import StopRequest
from mnist_trials.records import CheckpointInfo
from mnist_trials.training.agreement import first_of
from mnist_trials.training.evaluation import run_validation
from mnist_trials.training.final_test import run_test
from mnist_trials.training.guard import LossGuard
from mnist_trials.training.judge import Judge
from mnist_trials.training.leader import Leader
from mnist_trials.training.measures.accounts import Accounts
from mnist_trials.training.measures.watch import Watch
from mnist_trials.training.missed import missed_points
from mnist_trials.training.periods import Due, batches_before
from mnist_trials.training.reporter import Reporter, epochs_of, total_batches
from mnist_trials.training.saving import background, checkpoints
from mnist_trials.training.saving.background import Saver
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
        # (batches, uuid) of this run's checkpoints, after that which it goes on from
        self._saved: list[tuple[int, str]] = [] if saved is None else [(session.position.batches, saved)]
        self.stopped: StopRequest | None = None
        self._saved_at = session.position.batches if saved is not None else None  # or being saved
        self._completing = False  # nothing more is trained
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
        self._watch = None if settings.watch is None else Watch(session)
        self._total_batches = total_batches(settings, session.stream)
        self._next_progress = clock.monotonic()  # at the first batch: how long training will be is known from then on
        self._training_seconds = 0.0  # in the open reporting period
        self._snapshot_seconds = 0.0  # of these, copying what is to be saved
        self._data_seconds = 0.0  # of these, waiting for batches
        self._save_seconds = 0.0  # of these, waiting for saves
        self._judge = Judge(session)
        context = session.context
        self._ranks = context.execution.ranks
        self._together = self._ranks.layout.size > 1
        # Who tries a trial out is to hear at once that its storage does not work.
        self._saver = Saver(context, clock, self._tell_saved, () if settings.test_mode else background.PAUSES)
        self._leader = (
            Leader(self._ranks, context.channel, clock, context.beat, lambda: self._saver.news)
            if self._together
            else None
        )
        self._agrees = any(self._ranks.gather(session.callbacks.present))  # whether there is a callback on any rank
        self._stop_reason: str | None = None  # of a callback of any rank
        self._stop_requested = (self._leader or context.channel).stop_requested
        self._bell = self._leader or self._saver
        self._agree()  # one that was restored may have ended training before
        self._steps = session.learning.trainer(session, self._guard, self._look_up, clock)
        self._accounts = Accounts(session, clock)

    def run(self) -> None:
        """Train; `stopped` tells whether a request ended it. `Trainer.fit` says what happens in which order.

        Raises:
            CheckpointError: there is something to train, and the checkpoint holds no optimizer state to do so.
        """
        session = self.session
        if session.lacks_optimizer and not self._finished():
            raise CheckpointError(
                "The checkpoint holds no optimizer state: it is of the end of a training with "
                "`checkpoint_storage.save_optimizer: false`, and no training can go on from it. Start with its weights "
                "(`searcher.source_checkpoint_uuid`), or resume from an earlier checkpoint."
            )
        self._call("on_training_start")
        self._tell_missed_points()
        if session.settings.initial_validation and session.position.batches == 0 and session.validated_at is None:
            self._validate()
        if session.settings.initial_checkpoint and session.position.batches == 0:
            self._save()
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

    def evaluate(self) -> None:
        """Validate, where that is all there is to do."""
        self._validate()
        if self._leader is not None:
            self._leader.finish()

    def _call(self, hook: str, *arguments: Any) -> None:
        """Call `hook` of the callbacks, on every rank, and learn whether one of them ends training."""
        self.session.callbacks.call(hook, *arguments)
        self._agree()

    def _agree(self) -> None:
        if self._agrees:
            self._stop_reason = first_of(self._ranks, self.session.callbacks.stop_reason)

    def _finished(self) -> bool:
        return self._full_length() or self._stop_reason is not None

    def _group_open(self) -> bool:
        """Whether an update is still to be made of batches that training has seen."""
        inside = self.session.position.batch_in_epoch % self.session.learning.frequency != 0
        return inside and not self._full_length() and not self._completing

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
        with self._accounts.pause():
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
        trained = self._steps.train(self._segment_length())
        self._training_seconds += self._clock.monotonic() - started
        session.training_metrics.fold()
        epoch_ended = session.stream.advance(trained, position)
        if epoch_ended:
            self._guard.check()
            position.epochs += 1
            position.batch_in_epoch = 0
        if epoch_ended or self._full_length():
            session.learning.finish_group()
        session.learning.step_schedules("batch")
        if epoch_ended:
            position.steps_before_epoch = session.learning.steps
            session.learning.step_schedules("epoch")
        self._do_what_is_due(epoch_ended)

    def _do_what_is_due(self, epoch_ended: bool) -> None:
        session = self.session
        self._hear_of_save()
        if self._watch is not None and self._watch.due():
            self._reporter.watched(session.position, self._epochs(), self._watch.look())
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
            None if self._watch is None else self._watch.batches_left,
            *(
                due.batches_before(position, largest)
                for due in (self._reporting, self._validation, self._checkpointing)
            ),
        ]
        return min(bound for bound in bounds if bound is not None)

    def _look_up(self) -> bool:
        """Between batches: whether there is something to do; says how far training is, when it is time."""
        self.stopped = self._stop_requested()
        if self.stopped is not None or self._bell.news:
            return True
        if self._clock.monotonic() >= self._next_progress:
            self.report_progress()
        return False

    def _epochs(self) -> float:
        return epochs_of(self.session.position, self.session.stream)

    def report_progress(self) -> None:
        """Say how far training is."""
        self._reporter.progress(self.session.position, self._epochs(), self._total_batches)
        self._next_progress = self._clock.monotonic() + _PROGRESS_SECONDS

    def _report(self) -> None:
        session = self.session
        self._guard.check()
        metrics = session.training_metrics.finish()
        self._guard.reset()
        self._take_waits()
        if session.settings.profiling:
            batches = session.position.batches - session.position.reported
            metrics["profiling_batches_per_second"] = batches / max(self._training_seconds, 1e-9)
            metrics["profiling_data_seconds"] = self._data_seconds
            metrics["profiling_snapshot_seconds"] = self._snapshot_seconds
            metrics["profiling_save_wait_seconds"] = self._save_seconds
        session.position.reported = session.position.batches
        self._reporter.trained(session.position, self._epochs(), metrics, self._training_seconds)
        self._training_seconds = self._snapshot_seconds = self._data_seconds = self._save_seconds = 0.0
        self._agree()  # train_batch may have ended training by a callback

    def _take_waits(self) -> None:
        """Book for what training has waited since it was last asked."""
        total = self._accounts.performance
        data, saves = self._steps.data_seconds, self._saver.waited
        self._steps.data_seconds = self._saver.waited = 0.0
        total.input_wait += data
        total.checkpoints += saves
        self._data_seconds += data
        self._save_seconds += saves

    def account(self) -> None:
        """Write down how much this run has trained in how much time: with every checkpoint, and however it ends."""
        self._take_waits()
        self._accounts.write()

    def _validate(self) -> None:
        session = self.session
        settings = session.settings
        self._guard.check()
        self._call("on_validation_start")
        started = self._clock.monotonic()
        metrics = run_validation(
            session.learning.examining(),
            session.validation,
            session.context,
            limit=1 if settings.test_mode else None,
        )
        session.validated_at, session.validation_metrics = session.position.batches, metrics
        self._saved_at = None  # a checkpoint of this point does not know this validation
        seconds = self._clock.monotonic() - started
        self._accounts.performance.validation += seconds
        self._reporter.validated(session.position, self._epochs(), metrics, seconds)
        value = self._judge.value(metrics)
        best = value is None or session.is_best(value)
        if value is not None:
            session.learning.validated(value)
            if best:
                session.best_metric, session.best_batches = value, session.position.batches
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
        session.spares_optimizer = self._finished() and not self._group_open() and not session.settings.save_optimizer
        started = self._clock.monotonic()
        self._saver.begin(*checkpoints.take(session))
        self._saved_at = session.position.batches
        seconds = self._clock.monotonic() - started
        self._accounts.performance.checkpoints += seconds
        self._snapshot_seconds += seconds

    def _hear_of_save(self) -> None:
        if (self._leader or self._saver).news:
            if self._leader is not None:
                self._leader.news = False
            self._saver.look()

    def _tell_saved(self, info: CheckpointInfo) -> None:
        self.checkpoint = info.uuid
        self._saved.append((info.batches, info.uuid))
        self._reporter.saved(info)
        self.account()
        self._call("on_checkpoint_saved", info.uuid)

    def finish_save(self) -> None:
        """After an error: let a save that is under way come to its end, and tell it, so that it is not lost."""
        if (info := self._saver.finish_alone()) is not None:
            self.checkpoint = info.uuid
            self._reporter.saved(info)

    def _complete(self) -> None:
        session = self.session
        steps = session.learning.steps
        session.learning.finish_group()  # a callback may end training inside a group
        self._completing = True
        if session.learning.steps != steps:
            session.validated_at = self._saved_at = None
        if self._stop_reason is not None and not self._full_length():
            session.context.notice(f"Training ends after {session.position.batches} batches: {self._stop_reason}.")
        if session.position.reported < session.position.batches:
            self._report()
        if session.settings.final_validation and session.validated_at != session.position.batches:
            self._validate()
        self._save()
        self._saver.settle()
        if session.settings.test_mode and self.checkpoint is not None:
            checkpoints.read_back(session, self.checkpoint)
        elif session.test is not None:
            run_test(session, session.test, self._saved, self._clock)
