"""`watch`: histograms of parameters and gradients every so many batches, for loggers and the record."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, final

from mnist_trials.records import Histogram
from mnist_trials.training.measures.histograms import histograms_of
from mnist_trials.training.session import Session

GRADIENTS = "gradients"
PARAMETERS = "parameters"


@final
class Watch:
    """Looks at a session's parameters and gradients after every `every` batches.

    Parameters are those after the batch. Gradients are those of the last update by then, as they were before clipping:
    means over all samples of the update, of their true size. Where no update was made since the last look (a group of
    batches is still open), the look is put off until there is one. Of what several slots hold parts of, each slot
    counts its own: so every rank calls the same methods after the same batches.
    """

    def __init__(self, session: Session) -> None:
        asked = session.settings.watch
        assert asked is not None
        kinds = (PARAMETERS, GRADIENTS) if asked["what"] == "all" else (asked["what"],)
        self._session = session
        self._every: int = asked["every"]
        self._kinds = kinds
        self._next: int = (session.position.batches // self._every + 1) * self._every
        if GRADIENTS in kinds:
            session.learning.watch_gradients(self._near)

    def _near(self) -> bool:
        """Whether the batch at hand, or one before it, is one to look after."""
        return self._session.position.batches + 1 >= self._next

    @property
    def batches_left(self) -> int:
        """After how many batches it is due, at least."""
        return max(1, self._next - self._session.position.batches)

    def due(self) -> bool:
        """Whether it is time to look."""
        waited, learning = self._session.position.batches - self._next, self._session.learning
        if waited < 0 or GRADIENTS not in self._kinds:
            return waited >= 0
        # A trial may make no updates that the runtime knows of.
        return learning.has_gradients or waited >= learning.frequency

    def look(self) -> tuple[Histogram, ...]:
        """The histograms of this moment. A collective; waits for the device."""
        session = self._session
        found = histograms_of(self._arrays(), session.context.execution.ranks)
        self._next = (session.position.batches // self._every + 1) * self._every
        return found

    def _arrays(self) -> Iterator[tuple[str, str, Any]]:
        learning = self._session.learning
        if PARAMETERS in self._kinds:
            for name, array in learning.spread_parameters():
                yield PARAMETERS, name, array
        if GRADIENTS in self._kinds:
            for name, array in learning.spread_gradients():
                yield GRADIENTS, name, array
