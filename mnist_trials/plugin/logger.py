"""What a logger is: a place outside the store that follows an experiment.

Loggers run beside the controller and see what it has stored. One that fails is said so once and dropped; it never
stops a trial.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from mnist_trials.events import Event


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LoggerContext:
    """What a logger is told of the experiment it follows."""

    experiment_id: int
    name: str
    config: Mapping[str, Any]
    directory: Path  # a folder of the experiment's own for files


class Logger(ABC):
    """Follows one experiment. Called from one thread."""

    @abstractmethod
    def start(self, context: LoggerContext) -> None:
        """Called once, first; again, with the same context, when an experiment goes on."""

    @abstractmethod
    def trial_created(self, trial_id: int, hparams: Mapping[str, Any]) -> None:
        """A trial was made."""

    @abstractmethod
    def event(self, event: Event) -> None:
        """Something happened in a trial; stored already."""

    def waiting(self, trial_id: int, why: str) -> None:
        """A trial that could start waits for slots that others hold; `why` says whose, empty: it waits no more."""

    @abstractmethod
    def finish(self, summary: Mapping[str, Any]) -> None:
        """The experiment ended or was paused; `summary` is what `describe --json` prints."""
