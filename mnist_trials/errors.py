"""The errors this package raises on purpose. Each knows the exit status a command ends with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from typing_extensions import override


class MnistTrialsError(Exception):
    """Base of every error raised on purpose; its text is meant for a person and needs no traceback."""

    exit_status: ClassVar[int] = 1


class UsageError(MnistTrialsError):
    """What was asked cannot be done as asked; nothing was started or stored."""

    exit_status = 2


@final
@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in an experiment config.

    `line` and `column` count from 1; they are None for a value that came from no file.
    """

    message: str
    source: str | None = None
    line: int | None = None
    column: int | None = None

    @override
    def __str__(self) -> str:
        if self.source is None:
            return self.message
        if self.line is None:
            return f"{self.source}: {self.message}"
        return f"{self.source}:{self.line}:{self.column}: {self.message}"


@final
class ConfigError(UsageError):
    """An experiment config with one or more mistakes; `problems` holds them all, in file order."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class PluginError(UsageError):
    """A plugin that is unknown, unavailable, or was given options it does not take."""


class StoreError(UsageError):
    """The home or its store cannot be used: not writable, full, locked, or written by a newer version."""


class CheckpointError(MnistTrialsError):
    """A checkpoint that cannot be written, found or used."""


@final
class CheckpointDamaged(CheckpointError):
    """A checkpoint whose files do not match its manifest."""


class DataError(MnistTrialsError):
    """A data set that is absent or cannot be read."""


class TrialError(MnistTrialsError):
    """A trial that breaks the rules of the Trial interface; the text says which and what to do."""


@final
class ProgramError(TrialError):
    """A step that no program can hold, or a program used in another way than it was captured for."""


@final
class RanksMissing(MnistTrialsError):
    """Not all ranks of a trial met in time. Another attempt may fare better: it is no fault of the trial."""


@final
class NonFiniteLoss(TrialError):
    """The loss became NaN or infinite and `on_nan` is `stop`."""


@final
class InvalidHP(MnistTrialsError):
    """Raised by a trial whose hyperparameters make no sense; the searcher replaces the trial."""
