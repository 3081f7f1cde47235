"""Saves a session as a checkpoint, and finds the checkpoint to go on from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch

from mnist_trials.checkpoint import (
    CheckpointContent,
    Parts,
    Snapshot,
    new_checkpoint_id,
    read_checkpoint,
    take_snapshot,
)
from mnist_trials.config.secrets import without_secrets
from mnist_trials.errors import CheckpointDamaged, CheckpointError, TrialError
from mnist_trials.events import finite
from mnist_trials.plugin import Spread
from mnist_trials.training.agreement import require_same
from mnist_trials.training.context import TrialContext
from mnist_trials.training.periods import Position
from mnist_trials.training.reporter import Reporter, epochs_of
from mnist_trials.training.saving.fitting import digests_of, lists_of, require_fitting
from mnist_trials.training.saving.reaching import reached
from mnist_trials.training.session import Session
from mnist_trials.training.trial import Trial


@final
@dataclass(frozen=True, slots=True)
class Origin:
    """What a run goes on from."""

    uuid: str
    content: CheckpointContent
    own: bool  # this trial's own: the run continues it
    weights_only: bool = False


@final
@dataclass(frozen=True, slots=True)
class Rejection:
    """A checkpoint that was not used."""

    uuid: str
    error: CheckpointError


def find_origin(context: TrialContext, latest_checkpoint: str | Path | None) -> tuple[Origin | None, list[Rejection]]:
    """The newest usable checkpoint of the trial; else `latest_checkpoint`; else the weights to start warm from.

    Every rank reads it itself, and all must have found the same.

    Raises:
        TrialError: they have not.
        CheckpointError: none of the trial's checkpoints can be read, and not because all are damaged; or one of the
            others cannot be used.
    """
    origin, rejections = _find(context, latest_checkpoint)
    require_same(
        context.execution.ranks,
        "the checkpoint that they go on from",
        "none" if origin is None else f"{origin.uuid} ({origin.content.batches:,} batches)",
        "All of them must be able to read the same ones: name a storage that every machine reaches, such as shared_fs.",
    )
    return origin, rejections


def _find(context: TrialContext, latest_checkpoint: str | Path | None) -> tuple[Origin | None, list[Rejection]]:
    rejections: list[Rejection] = []
    for uuid in context.spec.checkpoints:
        try:
            return Origin(uuid, fetch(context, uuid), own=True), rejections
        except CheckpointError as error:
            rejections.append(Rejection(uuid, error))
    if unread := [r.error for r in rejections if not isinstance(r.error, CheckpointDamaged)]:
        raise unread[0]
    if latest_checkpoint is not None:
        return Origin(*_read(context, latest_checkpoint), own=False), rejections
    if (warm := context.spec.warm_start) is not None:
        try:
            uuid, content = _read(context, warm)
        except CheckpointError as error:
            how = "go on from" if context.spec.resume else "start with the weights of"
            raise CheckpointError(f"The trial was to {how} checkpoint {warm}. {error}") from error
        return Origin(uuid, content, own=False, weights_only=not context.spec.resume), rejections
    return None, rejections


def tell_rejections(rejections: list[Rejection], origin: Origin | None, context: TrialContext) -> None:
    """Say which checkpoints were not used, and what is used instead."""
    reporter = Reporter(context)
    instead = "starting from the beginning"
    if origin is not None:
        instead = f"{'starting with the weights of' if origin.weights_only else 'going on from'} {origin.uuid}"
    for rejection in rejections:
        if isinstance(rejection.error, CheckpointDamaged):
            reporter.rejected(rejection.uuid, str(rejection.error))
        context.notice(f"The checkpoint {rejection.uuid} cannot be used; {instead}. {rejection.error}")


def take(session: Session) -> tuple[str, Snapshot | Parts]:
    """A new id, the same on all ranks, and a copy of what this rank holds at this moment. A collective.

    No weight, optimizer state or gradient moves between ranks: the snapshot of rank 0 lacks what the others hold.

    Raises:
        CheckpointError: a state of the user's own holds what no checkpoint can keep; raised on every rank.
        TrialError: the ranks hold parts of other tensors than rank 0 has; raised on every rank.
    """
    context, ranks = session.context, session.context.execution.ranks
    content = content_of(session)
    held: Snapshot | Parts | None = None
    refused = None
    try:
        held = Parts(content) if context.rank else take_snapshot(content)
    except CheckpointError as error:
        refused = error
    lists = lists_of(content, held, ranks)
    word = (new_checkpoint_id(context.spec.owner), None if refused is None else str(refused), digests_of(lists))
    words = ranks.gather(word)
    uuid, text, _ = words[0]
    context.beat()
    if held is None or text is not None:
        raise refused or CheckpointError(text)
    require_fitting([digests for _, _, digests in words], lists, ranks)
    return uuid, held


def content_of(session: Session) -> CheckpointContent:
    """What a checkpoint of this moment holds, sharing the memory of `session`. A collective."""
    context, position = session.context, session.position
    session.learning.align()
    validated = session.validated_at == position.batches
    return CheckpointContent(
        model=context.execution.readable(session.learning.weights()),
        state=context.execution.readable(session.state_dict()),
        batches=position.batches,
        epochs=epochs_of(position, session.stream),
        records=position.records,
        metrics=finite(session.validation_metrics) if validated else {},
        hparams=context.spec.hparams,
        trial_class=class_name(session.trial),
        experiment_id=context.experiment_id,
        trial_id=context.trial_id,
        config=without_secrets(context.experiment_config),
        code=context.spec.context_dir or None,
    )


def restore(session: Session, content: CheckpointContent) -> None:
    """Bring `session` to where `content` was saved."""
    session.load(content)


def restore_to_evaluate(session: Session, origin: Origin | None) -> None:
    """Give `session` what a validation of `origin` needs: weights, the trial's own state, and how far it was trained.

    Raises:
        TrialError: there is no origin, or its weights are of another model.
    """
    if origin is None:
        raise TrialError("There is no checkpoint to evaluate.")
    content = origin.content
    session.learning.load_weights(content)
    session.position = Position(**content.state["position"])
    session.trial.load_state_dict(content.state["trial"])


def start_warm(session: Session, origin: Origin) -> None:
    """Give the new `session` the weights of `origin`, and say so.

    Raises:
        TrialError: they are of another model.
    """
    content, context = origin.content, session.context
    trial = f"trial {content.trial_id}"
    if content.experiment_id != context.experiment_id:
        trial = f"{trial} of experiment {content.experiment_id}" if content.experiment_id else "a script"
    source = f"the checkpoint {origin.uuid} ({trial}, after {content.batches:,} batches)"
    try:
        session.learning.load_weights(content)
    except TrialError as error:
        raise TrialError(f"The trial cannot start with the weights of {source}. {error}") from error
    context.notice(f"The trial starts with the weights of {source}, and with nothing else of it.")


def read_back(session: Session, uuid: str) -> None:
    """Restore `session` from the checkpoint just saved, and check that this changed nothing.

    Raises:
        CheckpointError: it did, or the checkpoint is damaged.
    """
    before = {name: value.clone() for name, value in _held(session).items()}
    restore(session, fetch(session.context, uuid))
    after = _held(session)
    if wrong := [name for name in before if not _equal(before[name], after[name])]:
        raise CheckpointError(f"The checkpoint {uuid} gives back other values than were saved for {', '.join(wrong)}.")


def _held(session: Session) -> dict[str, torch.Tensor]:
    """What of the weights this rank gives to a checkpoint."""
    weights = session.learning.weights().items()
    held = {name: value.own if isinstance(value, Spread) else value for name, value in weights}
    return {name: value for name, value in held.items() if value is not None}


def _equal(left: torch.Tensor, right: torch.Tensor) -> bool:
    if torch.equal(left, right):
        return True
    unequal = left != right  # NaN differs from itself
    return bool((left.isnan() & right.isnan())[unequal].all())


def class_name(trial: Trial) -> str:
    """`module:Class` of a trial, as an entrypoint names it."""
    return f"{type(trial).__module__}:{type(trial).__qualname__}"


def fetch(context: TrialContext, uuid: str) -> CheckpointContent:
    """What the checkpoint `uuid` in the trial's storage holds.

    Raises:
        CheckpointError: it is not there, or damaged.
    """
    with context.storage.fetch(uuid) as folder:
        return read_checkpoint(folder)[1]


def _read(context: TrialContext, checkpoint: str | Path) -> tuple[str, CheckpointContent]:
    with reached(context, checkpoint) as folder:
        return folder.name, read_checkpoint(folder)[1]
