"""The test that ends a training: its best checkpoint, read again, on data that nothing was chosen by."""

from __future__ import annotations

from collections.abc import Sequence

from mnist_trials.clock import Clock
from mnist_trials.errors import CheckpointError
from mnist_trials.training.data.feeds import Feed
from mnist_trials.training.evaluation import run_validation
from mnist_trials.training.reporter import Reporter
from mnist_trials.training.saving import checkpoints
from mnist_trials.training.session import Session

_VALIDATION = "validation_"


def run_test(session: Session, test: Feed, saved: Sequence[tuple[int, str]], clock: Clock) -> None:
    """Test the best checkpoint of `session` on `test`; the session has its own weights again afterwards. A collective.

    `saved` are the checkpoints of this run and that which it goes on from, (batches, uuid), the newest last.

    Raises:
        CheckpointError: a checkpoint cannot be read.
    """
    context, learning = session.context, session.learning
    uuid, batches = _best(session, saved)
    if uuid is None:
        context.notice(
            "The test set was not used: no checkpoint was saved of the best validation"
            f"{'' if batches is None else f', after {batches:,} batches'}. checkpoint_policy 'best' saves it."
        )
        return
    started = clock.monotonic()
    content = checkpoints.fetch(context, uuid)
    after = checkpoints.fetch(context, saved[-1][1]) if saved and saved[-1][1] != uuid else None
    learning.load_weights(content)
    metrics = run_validation(learning.examining(), test, context)
    if after is not None:
        learning.load_weights(after)
    named = {f"test_{name.removeprefix(_VALIDATION)}": value for name, value in metrics.items()}
    Reporter(context).tested(content, uuid, named, clock.monotonic() - started)


def _best(session: Session, saved: Sequence[tuple[int, str]]) -> tuple[str | None, int | None]:
    """The checkpoint of the best validation, on every rank what rank 0 finds, and its batches.

    Where no validation was judged, it is the last one.
    """
    best, context = session.best_batches, session.context
    found = None
    if context.rank == 0:
        found = next((uuid for batches, uuid in reversed(saved) if best in (None, batches)), None)
        found = found or next((uuid for uuid in context.spec.checkpoints if _is_at(session, uuid, best)), None)
    uuid: str | None = context.execution.ranks.share(found)
    return uuid, best


def _is_at(session: Session, uuid: str, batches: int | None) -> bool:
    try:
        return checkpoints.fetch(session.context, uuid).batches == batches
    except CheckpointError:
        return False
