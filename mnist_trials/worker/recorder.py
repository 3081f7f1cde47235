"""Remembers what a worker has said of its progress, for its last word."""

from __future__ import annotations

from typing import final

from typing_extensions import override

from mnist_trials.events import (
    CheckpointSaved,
    Event,
    MetricsReported,
    ProgressReported,
    Request,
    StopRequest,
    TrialExited,
    TrialStarted,
    ValidationCompleted,
)
from mnist_trials.plugin import Channel


@final
class Recorder(Channel):
    """Passes everything on and keeps what a worker's last word needs."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.batches = 0  # trained, as far as was told
        self.checkpoint: str | None = None  # where the newest lies
        self.ended = False

    @override
    def emit(self, event: Event) -> None:
        self._channel.emit(event)
        match event:
            case TrialStarted() | ProgressReported() | MetricsReported() | ValidationCompleted():
                self.batches = event.batches
            case CheckpointSaved():
                self.checkpoint = event.checkpoint.location
            case TrialExited():
                self.ended = True

    @override
    def stop_requested(self) -> StopRequest | None:
        return self._channel.stop_requested()

    @override
    def wait_for_word(self) -> Request:
        return self._channel.wait_for_word()
