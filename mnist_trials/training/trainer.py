"""The Trainer: what runs a trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

from mnist_trials.clock import Clock, SystemClock
from mnist_trials.records import Outcome
from mnist_trials.training.context import TrialContext
from mnist_trials.training.loop import TrainingLoop
from mnist_trials.training.reporter import Reporter
from mnist_trials.training.saving import checkpoints
from mnist_trials.training.session import Session
from mnist_trials.training.settings import resolve
from mnist_trials.training.trial import Trial
from mnist_trials.units import Schedule, Unit


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class FitResult:
    """What a training came to."""

    metrics: Mapping[str, float]  # of the last validation
    batches: int
    epochs: int  # complete ones
    records: int
    best_metric: float | None  # the best value of the metric the trial is judged by
    checkpoint: str | None  # the uuid of the last checkpoint
    outcome: Outcome  # COMPLETED, or what a request to stop asked for


@final
class Trainer:
    """Trains one trial, in each of its processes."""

    def __init__(self, trial: Trial, context: TrialContext, *, clock: Clock | None = None) -> None:
        self._trial = trial
        self._context = context
        context.trainer = self
        self._clock = clock or SystemClock()
        self._session: Session | None = None
        self._start = 0  # batches trained when this run began

    @property
    def batches(self) -> int:
        """Batches trained so far, also after an error."""
        return self._start if self._session is None else max(self._start, self._session.position.batches)

    def fit(
        self,
        max_length: Unit | None = None,
        validation_period: Schedule | None = None,
        checkpoint_period: Schedule | None = None,
        reporting_period: Schedule | None = None,
        checkpoint_policy: str | None = None,
        latest_checkpoint: str | Path | None = None,
        step_zero_validation: bool | None = None,
        test_mode: bool = False,
        profiling_enabled: bool | None = None,
    ) -> FitResult:
        """Train the trial to `max_length`, from its newest checkpoint if it has any.

        In an experiment with `--mode train` it validates only where the searcher judges the trial; with `--mode eval`
        it trains nothing, but validates the checkpoint that the experiment starts from.

        What happens, in this order (a test runs these lines beside a real training and compares)::

            on_training_start()
            if step_zero_validation and at_start():
                validate()  # on_validation_start, evaluate_batch, on_validation_end; save by checkpoint_policy
            if save_initial_checkpoint and at_start():
                save()  # see below; nothing if that was done already
            while not finished() and not stop_requested():
                if held():  # in a search: it has trained as far as it may for now
                    validate()  # if this point is not validated yet
                    if not finished():  # as a callback may decide
                        save()
                        wait_for_save()
                        wait_for_word()  # that it may go on, or shall stop
                    continue
                if at_start_of_epoch():
                    on_epoch_start()
                loss = train_batch()
                backward(loss)
                if group_is_full() or epoch_ended() or finished():
                    optimizer_step()  # unscale, clip, step, zero_grad
                    step_schedules("optimizer_step")
                step_schedules("batch")
                if epoch_ended():
                    step_schedules("epoch")
                if save_is_durable():  # one that began at an earlier batch, written while training went on
                    on_checkpoint_saved()
                if due(watch):
                    look()  # histograms of parameters, and of the gradients of the last update
                if due(reporting_period):
                    report()
                if epoch_ended():
                    on_epoch_end()
                if due(validation_period):  # or the searcher judges the trial here, where fit was given no period
                    validate()
                if due(checkpoint_period) and not finished():
                    save()  # wait_for_save, copy this point, begin to write it; nothing if that was done already
            if finished():
                report()  # what was not reported yet
                validate()  # if this point is not validated yet
            save()
            wait_for_save()  # if one is being written, until it is durable; then on_checkpoint_saved
            on_training_end()

        Args:
            max_length: how long to train in all. Default: the experiment's `searcher.max_length`; where that has a
                `max_time` instead, until it is asked to stop.
            validation_period: when to validate, besides the end: a period, or a list of points. Default: the
                experiment's `min_validation_period`, else only at the end, and exactly where the searcher judges the
                trial. One that is given is kept to, and a notice says which of the searcher's points it misses.
            checkpoint_period: when to save a checkpoint, besides the end and the policy. Default: the experiment's
                `min_checkpoint_period`, else never.
            reporting_period: over how much training metrics are averaged. Default: the experiment's
                `scheduling_unit`, else `Batch(100)`.
            checkpoint_policy: save after a validation that is the "best" so far (default), after "all", or "none".
            latest_checkpoint: a checkpoint to go on from, where the trial has none of its own: its folder, its URL, or
                its id (in the storage of the trial; of one in a folder under the home the beginning of it will do).
            step_zero_validation: validate before training. Default: the experiment's `perform_initial_validation`.
            test_mode: train one batch, validate one, save a checkpoint, restore it, and be done.
            profiling_enabled: report how fast training is and how long it waits for data, as training metrics.

        Returns:
            The result, also where training was asked to stop: its `outcome` says so.

        Raises:
            TrialError: the trial breaks the rules of the Trial interface, or an argument is not allowed.
            NonFiniteLoss: the loss is not finite, and `on_nan` is `stop`.
            DataError: there is no data to train or validate on.
            CheckpointError: a checkpoint cannot be written (after several tries, while training goes on), or that to
                go on from cannot be used.
        """
        self._tell_unused_slots()
        self._tell_slow_precision()
        settings = resolve(
            self._context,
            max_length=max_length,
            validation_period=validation_period,
            checkpoint_period=checkpoint_period,
            reporting_period=reporting_period,
            checkpoint_policy=checkpoint_policy,
            step_zero_validation=step_zero_validation,
            test_mode=test_mode,
            profiling_enabled=profiling_enabled,
        )
        origin, rejections = checkpoints.find_origin(self._context, latest_checkpoint)
        goes_on = origin is not None and (settings.evaluates_only or not origin.weights_only)
        self._start = origin.content.batches if origin is not None and goes_on else 0
        Reporter(self._context).started(self._start, None if origin is None else origin.uuid)
        checkpoints.tell_rejections(rejections, origin, self._context)
        session = self._session = Session(self._trial, self._context, settings)
        if settings.evaluates_only:
            checkpoints.restore_to_evaluate(session, origin)
        elif origin is not None and goes_on:
            checkpoints.restore(session, origin.content)
        elif origin is not None:
            checkpoints.start_warm(session, origin)
        return self._run(TrainingLoop(session, self._clock, origin.uuid if origin is not None and origin.own else None))

    def _tell_unused_slots(self) -> None:
        slots, mesh = len(self._context.spec.slots), self._context.mesh
        if slots > mesh.data * mesh.tensor:
            self._context.notice(
                f"This trial has {slots} slots, but its command was started once, so only one process trains. Put "
                "`python3 -m mnist_trials.launch.torch_distributed` before the command to run it on every slot."
            )

    def _tell_slow_precision(self) -> None:
        context = self._context
        asked = context.experiment_config.get("precision")
        if asked == "fp16-mixed" and context.device.type == "cpu" and context.rank == 0:
            context.notice(
                "precision fp16-mixed is for GPUs: few CPUs have float16 arithmetic, and the others take several times "
                "as long as in fp32. Use fp32 or bf16-mixed on a CPU."
            )

    def _run(self, loop: TrainingLoop) -> FitResult:
        session = loop.session
        try:
            if session.settings.evaluates_only:
                loop.evaluate()
            else:
                loop.run()
        except (Exception, SystemExit):
            loop.report_progress()  # the record of the error says exactly where it was
            loop.finish_save()
            raise
        finally:
            loop.account()
            session.stream.close()
            self._context.rest()  # what a script does afterwards is its own
        return FitResult(
            metrics=session.validation_metrics,
            batches=session.position.batches,
            epochs=session.position.epochs,
            records=session.position.records,
            best_metric=session.best_metric,
            checkpoint=loop.checkpoint,
            outcome=Outcome.COMPLETED if loop.stopped is None else loop.stopped.outcome,
        )
