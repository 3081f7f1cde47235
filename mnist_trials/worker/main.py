"""What a worker does, whichever launcher started it: set up, train, and say how it ended."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mnist_trials.config import ExperimentConfig
from mnist_trials.events import Notice
from mnist_trials.plugin import Channel, WorkerSpec
from mnist_trials.records import Outcome
from mnist_trials.worker.command import run_here, without_launch_layer
from mnist_trials.worker.ending import await_cause, tell_end, tell_failure
from mnist_trials.worker.entrypoint import load_trial_class
from mnist_trials.worker.failure import show
from mnist_trials.worker.recorder import Recorder
from mnist_trials.worker.seat import Seat, offered
from mnist_trials.worker.setup import open_context
from mnist_trials.worker.watchdog import watched


def run(spec: WorkerSpec, channel: Channel) -> int:
    """Train the trial of `spec` in this process; returns the exit status, 0 or 1.

    Tells everything through `channel`, `TrialExited` last, and raises nothing: an exception of the user's code is
    printed and told, and the status is 1. A command entrypoint is run inside this process and takes its context by
    `mt.init()`; one that never does leaves no `TrialExited` unless it fails.
    """
    recorder = Recorder(channel)
    with offered(spec, recorder) as seat:
        try:
            os.environ.update(spec.environment)
            config = ExperimentConfig.from_dict(spec.config)
            if config.entrypoint.command:
                return _run_script(config, seat)
            seat.taken = True
            outcome = _train(spec, config, recorder)
        except (Exception, KeyboardInterrupt, SystemExit) as error:
            return fail(spec, recorder, error)
    tell_end(spec, recorder, outcome)
    return 0


def fail(spec: WorkerSpec, recorder: Recorder, error: BaseException) -> int:
    """Print `error`, tell that the run ended by it, and give the exit status."""
    await_cause(spec, error)
    show(error)
    tell_failure(spec, recorder, error)
    return 1


def notice_of(spec: WorkerSpec, message: str) -> Notice:
    """`message` for a person, from this rank."""
    return Notice(trial_id=spec.trial_id, run=spec.run, rank=spec.rank, message=message)


def _train(spec: WorkerSpec, config: ExperimentConfig, recorder: Recorder) -> Outcome:
    from mnist_trials.training.trainer import Trainer

    assert config.entrypoint.trial is not None
    trial_class = load_trial_class(config.entrypoint.trial, Path(spec.context_dir))
    context = open_context(spec, config, recorder)
    with watched(context, recorder):
        trainer = Trainer(trial_class(context), context)
        try:
            outcome = trainer.fit().outcome
        finally:
            recorder.batches = trainer.batches
    context.execution.close()
    return outcome


def _run_script(config: ExperimentConfig, seat: Seat) -> int:
    command, notice = without_launch_layer(config.entrypoint.command)
    if notice:
        seat.channel.emit(notice_of(seat.spec, notice))
    try:
        run_here(command)
    except SystemExit as error:
        return _exit_status(error)
    finally:
        seat.leave(sys.exception())
    return 0


def _exit_status(error: SystemExit) -> int:
    if error.code is None or isinstance(error.code, int):
        return error.code or 0
    print(error.code, file=sys.stderr)
    return 1
