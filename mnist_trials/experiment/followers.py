"""The loggers that follow an experiment. One that fails is dropped; it never stops a trial."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

from mnist_trials.events import Event
from mnist_trials.plugin.logger import Logger, LoggerContext


@final
class Followers:
    """Hands what was stored to every logger in turn."""

    def __init__(self, loggers: Sequence[Logger], dropped: Callable[[str], None]) -> None:
        """`dropped` is told, in a sentence, of each logger that failed."""
        self._loggers = list(loggers)
        self._dropped = dropped

    def start(self, context: LoggerContext) -> None:
        """See `Logger.start`."""
        self._each(lambda logger: logger.start(context))

    def trial_created(self, trial_id: int, hparams: Mapping[str, Any]) -> None:
        """See `Logger.trial_created`."""
        self._each(lambda logger: logger.trial_created(trial_id, hparams))

    def event(self, event: Event) -> None:
        """See `Logger.event`."""
        self._each(lambda logger: logger.event(event))

    def waiting(self, trial_id: int, why: str) -> None:
        """See `Logger.waiting`."""
        self._each(lambda logger: logger.waiting(trial_id, why))

    def finish(self, summary: Mapping[str, Any]) -> None:
        """See `Logger.finish`."""
        self._each(lambda logger: logger.finish(summary))

    def _each(self, call: Callable[[Logger], None]) -> None:
        for logger in tuple(self._loggers):
            try:
                call(logger)
            except Exception as error:  # foreign code
                self._loggers.remove(logger)
                self._dropped(f"the logger {type(logger).__name__} failed and was dropped: {_words(error)}")


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
