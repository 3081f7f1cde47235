"""Tells the controller how training goes."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any, final

from mnist_trials.checkpoint import CheckpointContent
from mnist_trials.events import (
    CheckpointRejected,
    CheckpointSaved,
    Event,
    HistogramsReported,
    MetricsReported,
    ProgressReported,
    TrialHeld,
    TrialStarted,
    TrialTested,
    ValidationCompleted,
    finite,
)
from mnist_trials.records import CheckpointInfo, Histogram
from mnist_trials.training.context import TrialContext
from mnist_trials.training.data.stream import Stream
from mnist_trials.training.periods import Position
from mnist_trials.training.settings import FitSettings
from mnist_trials.units import Batch, Epoch


@final
class Reporter:
    """Sends the events of one run, which rank 0 speaks for. What they need to know of a position is worked out here."""

    def __init__(self, context: TrialContext) -> None:
        self._context = context
        self._who: dict[str, Any] = {"trial_id": context.trial_id, "run": context.run, "rank": context.rank}

    def _emit(self, event: Event) -> None:
        if self._context.rank == 0:
            self._context.channel.emit(event)

    def started(self, batches: int, checkpoint: str | None) -> None:
        """Training begins at `batches`, with what was in `checkpoint`."""
        context = self._context
        self._emit(
            TrialStarted(
                **self._who,
                pid=os.getpid(),
                host=socket.gethostname(),
                backend=context.spec.slot.backend,
                device=str(context.device),
                batches=batches,
                checkpoint=checkpoint,
            )
        )

    def rejected(self, uuid: str, reason: str) -> None:
        """A checkpoint was not used."""
        self._emit(CheckpointRejected(**self._who, uuid=uuid, reason=reason))

    def trained(self, position: Position, epochs: float, metrics: Mapping[str, float], seconds: float) -> None:
        """A reporting period ended."""
        self._emit(
            MetricsReported(
                **self._who,
                batches=position.batches,
                epochs=epochs,
                records=position.records,
                metrics=finite(metrics),
                seconds=seconds,
            )
        )

    def watched(self, position: Position, epochs: float, histograms: tuple[Histogram, ...]) -> None:
        """Parameters or gradients were looked at."""
        self._emit(
            HistogramsReported(
                **self._who,
                batches=position.batches,
                epochs=epochs,
                records=position.records,
                histograms=histograms,
            )
        )

    def validated(self, position: Position, epochs: float, metrics: Mapping[str, float], seconds: float) -> None:
        """A validation was made."""
        self._emit(
            ValidationCompleted(
                **self._who,
                batches=position.batches,
                epochs=epochs,
                records=position.records,
                metrics=finite(metrics),
                seconds=seconds,
            )
        )

    def tested(self, content: CheckpointContent, uuid: str, metrics: Mapping[str, float], seconds: float) -> None:
        """The test set was run once, with what the checkpoint `uuid` holds."""
        self._emit(
            TrialTested(
                **self._who,
                batches=content.batches,
                epochs=content.epochs,
                records=content.records,
                checkpoint=uuid,
                metrics=finite(metrics),
                seconds=seconds,
            )
        )

    def held(self, position: Position) -> None:
        """Training has come as far as it may for now; it is validated and saved."""
        self._emit(TrialHeld(**self._who, batches=position.batches))

    def saved(self, checkpoint: CheckpointInfo) -> None:
        """A checkpoint lies in its storage."""
        self._emit(CheckpointSaved(**self._who, checkpoint=checkpoint))

    def progress(self, position: Position, epochs: float, total_batches: int | None) -> None:
        """Training has come this far."""
        self._emit(
            ProgressReported(
                **self._who,
                batches=position.batches,
                epochs=epochs,
                records=position.records,
                total_batches=total_batches,
            )
        )


def epochs_of(position: Position, stream: Stream) -> float:
    """Epochs trained, with the part of the current one where the length of an epoch is known."""
    part = position.batch_in_epoch / stream.epoch_length if stream.epoch_length else 0.0
    return position.epochs + part


def total_batches(settings: FitSettings, stream: Stream) -> int | None:
    """About how many batches the whole training has; None where that cannot be known."""
    length = settings.max_length
    if length is None:
        return None
    if isinstance(length, Batch):
        return length.value
    if isinstance(length, Epoch):
        return None if stream.epoch_length is None else length.value * stream.epoch_length
    return None if stream.largest_batch is None else -(-length.value // stream.largest_batch)
