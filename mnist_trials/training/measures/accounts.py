"""Books what one run of a trial does in its performance."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

from mnist_trials.clock import Clock
from mnist_trials.training.measures.performance import Performance
from mnist_trials.training.session import Session


@final
class Accounts:
    """Counts batches, samples and seconds of `session` from now on.

    Attributes:
        performance: that of the trial, for what else there is to book.
    """

    def __init__(self, session: Session, clock: Clock) -> None:
        context = session.context
        if context.performance is None:  # of an earlier `fit` in this run
            again = context.in_experiment and context.run > 1
            context.performance = Performance(context.directory, context.execution, goes_on=again)
        self.performance = context.performance
        self._session = session
        self._clock = clock
        # Which second, batch and sample would have been the first of this run.
        self._began = clock.monotonic() - self.performance.seconds
        self._first_batch = session.position.batches - self.performance.batches
        self._first_sample = session.position.records - self.performance.samples
        self._told = False

    @contextmanager
    def pause(self) -> Iterator[None]:
        """The time of a `with` block counts for nothing."""
        started = self._clock.monotonic()
        try:
            yield
        finally:
            self._began += self._clock.monotonic() - started

    def write(self) -> None:
        """Write down what was done until now, on rank 0. A file that cannot be written is told once, and no more."""
        position, performance, context = self._session.position, self.performance, self._session.context
        performance.seconds = self._clock.monotonic() - self._began
        performance.batches = position.batches - self._first_batch
        performance.samples = position.records - self._first_sample
        if context.rank != 0:
            return
        try:
            performance.write()
        except OSError as error:
            if not self._told:
                context.notice(f"The trial's performance could not be written down: {error}.")
            self._told = True
