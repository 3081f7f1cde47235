"""Learning that a backend has a way of its own for: its learner is given portions of batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, final

import torch
from typing_extensions import override

from mnist_trials.checkpoint import CheckpointContent
from mnist_trials.clock import Clock
from mnist_trials.errors import TrialError
from mnist_trials.plugin import Learner, Lesson
from mnist_trials.training.context import TrialContext
from mnist_trials.training.data.feeds import Feed, Share
from mnist_trials.training.learning import Examine, Learning, LookUp, Steps
from mnist_trials.training.measures.metrics import Accumulator
from mnist_trials.training.trial import Trial

if TYPE_CHECKING:
    from mnist_trials.training.guard import LossGuard
    from mnist_trials.training.session import Session


def learner_of(trial: Trial, context: TrialContext, training: Feed | None, *, learns: bool) -> Learner | None:
    """The learner of `trial`, built; None where the backend has torch models trained by the runtime.

    `training` is the data that it is to learn from; without any its weights must be loaded next.

    Raises:
        TrialError: model or optimizer are none of the backend's framework.
    """

    def first_batch() -> Any:
        assert training is not None
        return next(training.open(0, 0))[0]

    own = type(trial).build_optimizer is not Trial.build_optimizer
    learner = context.execution.learner(
        Lesson(
            trial=trial,
            hparams=context.hparams,
            build_optimizer=trial.build_optimizer if own else None,
            rules=trial.sharding_rules(),
            first_batch=None if training is None else first_batch,
            learns=learns,
            skips=context.experiment_config.get("on_nan") == "skip",
            keeps_gradients=(context.experiment_config.get("watch") or {}).get("what") in ("gradients", "all"),
            notice=context.notice,
        )
    )
    if learner is not None:
        if type(trial).build_lr_scheduler is not Trial.build_lr_scheduler:
            raise TrialError(
                "build_lr_scheduler is for torch's optimizers; on this backend the learning rate is set by the "
                "hyperparameter `lr_schedule`, or within the optimizer that build_optimizer returns."
            )
        trial._learner, trial._model, trial._optimizer = learner, learner.model, learner.optimizer
    return learner


@contextmanager
def examining_with(learner: Learner) -> Iterator[Examine]:
    """The time of a validation of `learner`'s model."""

    def examine(share: Share, index: int, metrics: Accumulator) -> None:
        batch, size, _ = share
        metrics.extend(learner.evaluate(batch, size, index))

    yield examine


@final
class PortionLearning(Learning):
    """What a learner makes of it."""

    def __init__(self, learner: Learner) -> None:
        self.learner = learner
        self._looked_at = learner.steps  # updates made when gradients were last looked at

    @property
    @override
    def steps(self) -> int:
        return self.learner.steps

    @property
    @override
    def frequency(self) -> int:
        return self.learner.frequency

    @override
    def trainer(self, session: Session, guard: LossGuard, look_up: LookUp, clock: Clock) -> Steps:
        return _Portions(session, self.learner, look_up, clock)

    @override
    def finish_group(self) -> None:
        self.learner.finish_group()

    @override
    def step_schedules(self, per: Literal["epoch", "batch"]) -> None:
        self.learner.step_schedules(per)

    @property
    @override
    def waits_for_metric(self) -> bool:
        return self.learner.waits_for_metric

    @override
    def validated(self, metric: float) -> None:
        self.learner.validated(metric)

    @override
    def examining(self) -> AbstractContextManager[Examine]:
        return examining_with(self.learner)

    @override
    def parameters(self) -> Iterator[tuple[str, Any]]:
        return self.learner.parameters()

    @override
    def spread_parameters(self) -> Iterator[tuple[str, Any]]:
        return self.learner.parameters()

    @override
    def watch_gradients(self, wanted: Callable[[], bool]) -> None:
        pass  # a learner keeps them, or does not

    @property
    @override
    def has_gradients(self) -> bool:
        return self.learner.steps > self._looked_at

    @override
    def spread_gradients(self) -> Iterator[tuple[str, Any]]:
        self._looked_at = self.learner.steps
        return self.learner.gradients()

    @override
    def not_finite(self) -> str | None:
        return self.learner.not_finite()

    @override
    def align(self) -> None:
        pass

    @override
    def weights(self) -> dict[str, torch.Tensor]:
        return self.learner.weights()

    @override
    def load_weights(self, content: CheckpointContent) -> None:
        self.learner.load_weights(content.model)

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"learner": self.learner.state_dict(), "stepper": {"gradients": {}}}

    @override
    def load_state_dict(self, state: Mapping[str, Any], gradients: Mapping[str, Any]) -> None:
        if "learner" not in state:
            raise TrialError(
                "The checkpoint was written by a backend whose models are torch's, and only its weights can be of use "
                "to this one: start from it with `searcher.source_checkpoint_uuid`, not with `resume`."
            )
        if state["learner"] is not None:
            self.learner.load_state_dict(state["learner"])
        self._looked_at = self.learner.steps  # gradients are in no checkpoint


@final
class _Portions(Steps):
    """Gives the learner as many batches as it wants, and gathers what it measured."""

    def __init__(self, session: Session, learner: Learner, look_up: LookUp, clock: Clock) -> None:
        self._session = session
        self._learner = learner
        self._look_up = look_up
        self._clock = clock

    @override
    def train(self, count: int) -> int:
        session, position = self._session, self._session.position
        batches = session.stream.batches()
        done = 0
        while done < count:
            if done:
                self._learner.step_schedules("batch")
            shares = self._taken(batches, self._learner.portion(count - done))
            samples = [size for _, size, _ in shares]
            metrics = self._learner.learn([batch for batch, _, _ in shares], samples, position.epochs, position.batches)
            session.training_metrics.extend(metrics)
            done += len(shares)
            position.advance(len(shares), sum(whole for _, _, whole in shares))
            if self._look_up():
                break
        return done

    def _taken(self, batches: Iterator[Share], count: int) -> list[Share]:
        started = self._clock.monotonic()
        taken = list(islice(batches, count))
        self.data_seconds += self._clock.monotonic() - started
        return taken
