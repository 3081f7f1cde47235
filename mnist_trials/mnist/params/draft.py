"""A config in the making, and what is to be said of the file that it is made of."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, final

from mnist_trials.config.nodes import Node, Place
from mnist_trials.config.report import Report


@final
class Draft:
    """The config so far (`config`), and the values of the file that were in order (`values`, by dotted path)."""

    def __init__(self, start: Mapping[str, Any], report: Report, place: Place) -> None:
        self.config: dict[str, Any] = copy.deepcopy(dict(start))
        self.values: dict[str, Any] = {}
        self.report = report
        self._places: dict[str, Place] = {}
        self._top = place

    def stands(self, path: str, place: Place) -> None:
        """Remember where the key `path` stands in the file."""
        self._places[path] = place

    def set(self, path: str, value: Any) -> None:
        """Set the value at the dotted `path` of the config."""
        *maps, name = path.split(".")
        node = self.config
        for step in maps:
            node = node.setdefault(step, {})
        node[name] = value

    def get(self, path: str) -> Any:
        """The value at the dotted `path` of the config; None where there is none."""
        node: Any = self.config
        for step in path.split("."):
            node = node.get(step) if isinstance(node, dict) else None
        return node

    def mistake(self, path: str, message: str) -> None:
        """A mistake in the value of the file's key `path`, or in the file where it has none."""
        self.report.mistake(self._places.get(path, self._top), message)

    def warn(self, path: str, message: str) -> None:
        """What a person should know of the file's key `path`."""
        self.report.warn(self._places.get(path, self._top), message)

    def meaningless(self, path: str) -> None:
        """Note that the file's key `path` means nothing here; all of these share one warning."""
        self.report.foreign(self._places.get(path, self._top), path)


Rule = Callable[[str, Node, Draft], None]
"""(dotted path of a key in the file, its value, the draft): what becomes of the key."""
