"""A worker that reports as fast as it can until it is asked to stop, as with tiny batches and a short period."""

from __future__ import annotations

import os
from typing import Any

from mnist_trials.events import MetricsReported, TrialExited, TrialStarted
from mnist_trials.plugin import Channel, WorkerSpec
from mnist_trials.records import Outcome


def run(spec: WorkerSpec, channel: Channel) -> int:
    who: dict[str, Any] = {"trial_id": spec.trial_id, "run": spec.run}
    channel.emit(TrialStarted(**who, pid=os.getpid(), host="", backend="cpu", device="cpu", batches=0, checkpoint=None))
    batches = 0
    outcome = Outcome.COMPLETED
    while batches < spec.hparams["events"]:
        batches += 1
        channel.emit(
            MetricsReported(
                **who, batches=batches, epochs=0.0, records=batches, metrics={"loss": 0.5, "accuracy": 0.5}, seconds=0.0
            )
        )
        if (request := channel.stop_requested()) is not None:
            outcome = request.outcome
            break
    channel.emit(TrialExited(**who, outcome=outcome, batches=batches))
    return 0
