"""The programs that a training needs, compiled before it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from mnist_trials.clock import SystemClock
from mnist_trials.training.data.feeds import Feed, Share
from mnist_trials.training.guard import LossGuard
from mnist_trials.training.measures.metrics import Accumulator
from mnist_trials.training.programwise.evaluation import ProgramEvaluation
from mnist_trials.training.programwise.shelf import Bound
from mnist_trials.training.programwise.step import ProgramStep
from mnist_trials.training.session import Session
from mnist_trials.training.torch_models.examination import examining
from mnist_trials.training.torch_models.learning import TorchLearning


def build_programs(session: Session, learning: TorchLearning) -> list[Bound]:
    """Those of a session whose config says `compile: program`: for whole batches, and for the last, short ones.

    They are run once on what they are built for, so the weights of the session are others afterwards.

    Raises:
        ProgramError: no program can do what the trial does; the text names the line and says what to do.
    """
    learning.trainer(session, LossGuard(session), lambda: False, SystemClock())  # which says what cannot be
    step = ProgramStep(session.trial, learning.model, learning.stepper, session.context)
    for batch, size, whole in _first_and_last(session.stream.feed):
        step.learn(batch, size, whole)
        learning.finish_group()
    evaluation = ProgramEvaluation(session.trial, learning.model, session.context)
    with examining(session.trial, learning.model, session.context, evaluation) as examine:
        for share in _first_and_last(session.validation):
            examine(share, 0, Accumulator("evaluate_batch", session.context.execution))
    return [*step.programs, *evaluation.programs]


def _first_and_last(feed: Feed) -> Iterator[Share]:
    yield from islice(feed.open(0, 0), 1)
    if feed.length is not None and feed.length > 1:
        yield from islice(feed.open(0, feed.length - 1), 1)
