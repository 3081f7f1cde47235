"""A config as read: plain values, each with the place where it was written."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, final

from mnist_trials.errors import Problem

MAX_LEVELS: Final = 50
"""How deep maps and lists may nest."""

Scalar = str | int | float | bool | None


@final
@dataclass(frozen=True, slots=True)
class Place:
    """Where something was written. `line` and `column` count from 1; both None: the source has no lines."""

    source: str | None = None
    line: int | None = None
    column: int | None = None

    def problem(self, message: str) -> Problem:
        """A problem at this place."""
        return Problem(message, self.source, self.line, self.column)


@final
class Unreadable:
    """Stands for a value that could not be read; its mistake is reported already, so nothing more is said of it."""


UNREADABLE: Final = Unreadable()


@final
@dataclass(frozen=True, slots=True)
class Node:
    """A value and its place. `text` is a plain scalar as it was written (`3.10`), None for all else."""

    place: Place
    value: Scalar | tuple[Node, ...] | Mapping[str, Entry] | Unreadable
    text: str | None = None


@final
@dataclass(frozen=True, slots=True)
class Entry:
    """One key of a map: where the key stands, and its value."""

    key: Place
    node: Node


def plain(node: Node) -> Any:
    """`node` as JSON values, without places; what was unreadable is left out or None."""
    value = node.value
    if isinstance(value, Unreadable):
        return None
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {name: plain(entry.node) for name, entry in value.items()}
    return value


def find(root: Node, path: str) -> Node:
    """The node at the dotted `path`, or the deepest one on the way to it."""
    node = root
    for name in path.split("."):
        if not isinstance(node.value, Mapping) or name not in node.value:
            break
        node = node.value[name].node
    return node


def describe(node: Node) -> str:
    """`node` in a few words, for the end of a sentence such as "must be a whole number, not ..."."""
    value = node.value
    if isinstance(value, tuple):
        return "a list" if value else "an empty list"
    if isinstance(value, Mapping):
        return "a map" if value else "an empty map"
    if isinstance(value, str):
        return quoted(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return _cut(node.text or str(value))


def quoted(text: str) -> str:
    """`text` in single quotes, cut when it is long."""
    return repr(_cut(text))


def _cut(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


@final
class NotAConfigValue(ValueError):
    """A Python value that no config can hold; `path` says where it lies."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(message)
        self.path = path


def from_python(value: object, path: str = "", level: int = 0) -> Node:
    """The node of a Python value (maps with string keys, lists, tuples, strings, numbers, bools, None).

    Raises:
        NotAConfigValue: it is, or holds, something else, or a number that is not finite, or nests too deep.
    """
    if level > MAX_LEVELS:
        raise NotAConfigValue(path, f"maps and lists may nest {MAX_LEVELS} levels deep at most")
    if isinstance(value, Mapping):
        entries = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise NotAConfigValue(path, f"a key must be a string, not {key!r}")
            entries[key] = Entry(Place(), from_python(item, f"{path}.{key}" if path else key, level + 1))
        return Node(Place(), entries)
    if isinstance(value, list | tuple):
        return Node(Place(), tuple(from_python(item, f"{path}[{i}]", level + 1) for i, item in enumerate(value)))
    if isinstance(value, float) and not math.isfinite(value):
        raise NotAConfigValue(path, f"a number must be finite, not {value}")
    if value is None or isinstance(value, bool | str | int | float):
        return Node(Place(), value, str(value) if type(value) is int else None)
    raise NotAConfigValue(path, f"a config holds maps, lists, strings, numbers, true, false and null, not {value!r}")
