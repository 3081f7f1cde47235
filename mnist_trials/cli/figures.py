"""How a search stands, in a few lines: how far it is, what its trials do, and which is the best so far."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, final

from mnist_trials.cli.explain import Terms, number
from mnist_trials.cli.screen import duration
from mnist_trials.cli.trial_table import hyperparameters_text
from mnist_trials.clock import Clock, SystemClock
from mnist_trials.records import TrialState

if TYPE_CHECKING:
    from mnist_trials.store import Reader
    from mnist_trials.store.rows import TrialRow

_LOOK_SECONDS: Final = 1.0
_SHARE: Final = 20  # looking takes at most one part in so many of the time
_ENOUGH: Final = 0.02  # the share of a search from whose time that of the rest is estimated

_WORDS: Final = {
    (TrialState.STARTING, False): "running",
    (TrialState.RUNNING, False): "running",
    (TrialState.QUEUED, False): "queued",
    (TrialState.PAUSED, False): "paused",
    (TrialState.COMPLETED, True): "stopped",
    (TrialState.COMPLETED, False): "completed",
    (TrialState.CANCELED, False): "cancelled",
    (TrialState.ERROR, False): "failed",
}
"""A trial's state, and whether the searcher stopped it early, in a word; in the order in which they are shown."""


def counts_text(standing: Mapping[tuple[TrialState, bool], int]) -> str:
    """`4 running, 12 queued, 20 stopped`, from `Reader.trial_standing`."""
    counts = dict.fromkeys(_WORDS.values(), 0)
    for (state, stopped), count in standing.items():
        counts[_WORDS[state, stopped and state is TrialState.COMPLETED]] += count
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count) or "none yet"


@final
class Figures:
    """Looked up in the store now and then. `refresh` and `close` are for one thread, `lines` for any."""

    def __init__(self, reader: Reader, experiment_id: int, clock: Clock | None = None) -> None:
        self._reader = reader
        self._experiment_id = experiment_id
        self._clock = clock or SystemClock()
        self._terms = Terms.of(reader.experiment(experiment_id).config)
        self._began: tuple[float, float] | None = None  # when this began to look, and how far the search was
        self._next = float("-inf")
        self.lines: tuple[str, ...] = ()

    def refresh(self) -> None:
        """Look again, if it is time."""
        now = self._clock.monotonic()
        if now < self._next:
            return
        progress = self._reader.experiment(self._experiment_id).progress
        standing = self._reader.trial_standing(self._experiment_id)
        best = self._reader.best_trials(self._experiment_id, 1)
        took = self._clock.monotonic() - now
        self._next = now + max(_LOOK_SECONDS, _SHARE * took)
        if self._began is None:
            self._began = (now, progress)
        head = f"{100 * progress:.0f} % done{self._left(now, progress)}; {counts_text(standing)}"
        self.lines = (head, *(self._best(trial) for trial in best))

    def _left(self, now: float, progress: float) -> str:
        assert self._began is not None
        began, before = self._began
        done = progress - before
        if done < _ENOUGH or progress >= 1:
            return ""
        return f", about {duration((now - began) * (1 - progress) / done)} left"

    def _best(self, trial: TrialRow) -> str:
        where = f"trial {self._experiment_id}.{trial.trial_id} at batch {trial.best_batches}"
        values = f"{self._terms.metric} {number(trial.best_metric)}"
        return f"best: {where}: {values}  ({hyperparameters_text(trial.hparams, self._terms.constants)})"
