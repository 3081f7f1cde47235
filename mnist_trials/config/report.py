"""Gathers the mistakes and warnings of one config, so that all can be told at once."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from dataclasses import replace
from typing import final

from mnist_trials.config.nodes import Place, quoted
from mnist_trials.errors import ConfigError, Problem


@final
class Report:
    """What is to be said of one config."""

    def __init__(self) -> None:
        self._problems: list[Problem] = []
        self._warnings: list[Problem] = []
        self._foreign: list[Problem] = []

    def mistake(self, place: Place, message: str) -> None:
        """Add a mistake; the config will not load."""
        self._problems.append(place.problem(message))

    def warn(self, place: Place, message: str) -> None:
        """Add a warning; the config loads."""
        self._warnings.append(place.problem(message))

    def foreign(self, place: Place, path: str) -> None:
        """Note a key that is accepted and means nothing here."""
        self._foreign.append(place.problem(path))

    @property
    def clean(self) -> bool:
        """Whether no mistake was found so far."""
        return not self._problems

    def check(self) -> None:
        """End here if there are mistakes.

        Raises:
            ConfigError: with every mistake, those of the file first and in its order.
        """
        if self._problems:
            raise ConfigError(sorted(self._problems, key=_order))

    def warnings(self) -> tuple[str, ...]:
        """Every warning as text, in file order; all foreign keys share one."""
        found = sorted(self._warnings, key=_order)
        if self._foreign:
            foreign = sorted(self._foreign, key=_order)
            paths = ", ".join(problem.message for problem in foreign)
            first = replace(foreign[0], message=f"these keys mean nothing here and are ignored: {paths}.")
            found.insert(0, first)
        return tuple(str(warning) for warning in found)


def _order(problem: Problem) -> tuple[bool, int, int]:
    return (problem.line is None, problem.line or 0, problem.column or 0)


def did_you_mean(name: str, known: Collection[str]) -> str:
    """` Did you mean 'x'?` with the nearest of `known`, or nothing where none is near."""
    near = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean {quoted(near[0])}?" if near else ""
