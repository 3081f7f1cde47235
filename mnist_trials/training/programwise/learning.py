"""Training of torch models by captured programs, one batch after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from typing_extensions import override

from mnist_trials.clock import Clock
from mnist_trials.errors import ProgramError
from mnist_trials.training.learning import LookUp, Steps
from mnist_trials.training.programwise.step import ProgramStep
from mnist_trials.training.torch_models.schedule import Schedules

if TYPE_CHECKING:
    from mnist_trials.training.session import Session


@final
class Programwise(Steps):
    """Has a program learn from each batch.

    Raises:
        ProgramError: the config asks for what cannot be done by programs.
    """

    def __init__(
        self, session: Session, step: ProgramStep, schedules: Schedules, look_up: LookUp, clock: Clock
    ) -> None:
        if session.settings.on_nan == "skip":
            raise ProgramError(
                "`on_nan: skip` looks at each loss before it is learnt from, and a program learns from a batch as a "
                "whole. Use `on_nan: stop` or `warn`, or leave `compile: program` out."
            )
        self._session = session
        self._step = step
        self._schedules = schedules
        self._look_up = look_up
        self._clock = clock

    @override
    def train(self, count: int) -> int:
        session, position, scheduled = self._session, self._session.position, self._schedules.has("batch")
        learn, gather, look_up = self._step.learn, session.training_metrics.add, self._look_up
        self._step.begin()
        batches = self.timed(session.stream.batches(), self._clock)
        for done in range(1, count + 1):
            if scheduled and done > 1:
                self._schedules.step("batch")
            batch, size, whole = next(batches)
            gather(learn(batch, size, whole), size)
            position.advance(1, whole)
            if look_up():
                return done
        return count
