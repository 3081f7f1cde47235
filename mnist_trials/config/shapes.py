"""Values that may be written in several ways, and are read into one."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, final

from typing_extensions import override

from mnist_trials.config.kinds import BAD, Kind, Text, Whole, flag_hint
from mnist_trials.config.nodes import Node, quoted
from mnist_trials.config.report import Report, did_you_mean
from mnist_trials.config.sections import Key, Section
from mnist_trials.units import UNITS

_COUNT: Final = Whole(1)


@final
@dataclass(frozen=True)
class Length(Kind):
    """`{batches: n}`, `{epochs: n}` or `{records: n}`; a plain number counts batches."""

    @override
    def check(self, node: Node, path: str, report: Report) -> Any:
        if isinstance(node.value, int) and not isinstance(node.value, bool):
            count = _COUNT.read(node, path, report)
            return BAD if count is BAD else {"batches": count}
        if not isinstance(node.value, Mapping) or not node.value:
            return self.refuse(node, path, report)
        return _one_unit(node, path, report)

    @override
    def words(self) -> str:
        return "{batches: n}, {epochs: n} or {records: n}"

    @override
    def json_schema(self) -> dict[str, Any]:
        count = _COUNT.json_schema()
        properties = dict.fromkeys(UNITS, count)
        one = {"type": "object", "properties": properties, "additionalProperties": False}
        return {"anyOf": [{**one, "minProperties": 1, "maxProperties": 1}, count]}


def _one_unit(node: Node, path: str, report: Report) -> Any:
    assert isinstance(node.value, Mapping)
    values: dict[str, Any] = {}
    for name, entry in node.value.items():
        if name not in UNITS:
            hint = did_you_mean(name, UNITS)
            report.mistake(entry.key, f"unknown unit {quoted(name)} in '{path}'.{hint} Known: {', '.join(UNITS)}.")
        elif values:
            report.mistake(entry.key, f"'{path}' takes one unit; it has '{next(iter(values))}' already.")
        else:
            values[name] = _COUNT.read(entry.node, f"{path}.{name}", report)
    return BAD if len(values) < len(node.value) or BAD in values.values() else values


@final
@dataclass(frozen=True)
class Periods(Kind):
    """A length, meaning every so often, or a list of lengths, meaning once at each. A length of 0 means never."""

    @override
    def check(self, node: Node, path: str, report: Report) -> Any:
        if isinstance(node.value, tuple) and node.value:
            points = [Length().read(item, f"{path}[{i}]", report) for i, item in enumerate(node.value)]
            return BAD if BAD in points else points
        if isinstance(node.value, Mapping) or (isinstance(node.value, int) and not isinstance(node.value, bool)):
            return None if _is_never(node) else Length().read(node, path, report)
        return self.refuse(node, path, report)

    @override
    def words(self) -> str:
        return "{batches: n}, {epochs: n} or {records: n}, or a list of these for single points"

    @override
    def json_schema(self) -> dict[str, Any]:
        length = Length().json_schema()
        never = {"type": "object", "maxProperties": 1, "properties": {name: {"const": 0} for name in UNITS}}
        never |= {"minProperties": 1, "additionalProperties": False}
        points = {"type": "array", "minItems": 1, "items": length}
        return {"anyOf": [length, never, {"const": 0}, points]}


def _is_never(node: Node) -> bool:
    if isinstance(node.value, Mapping) and len(node.value) == 1:
        ((name, entry),) = node.value.items()
        return name in UNITS and type(entry.node.value) is int and entry.node.value == 0
    return type(node.value) is int and node.value == 0


@final
@dataclass(frozen=True)
class IntOr(Kind):
    """A whole number of at least 1, or one word."""

    word: str

    @override
    def check(self, node: Node, path: str, report: Report) -> Any:
        if node.value == self.word:
            return self.word
        if type(node.value) is int and node.value >= 1:
            return node.value
        return self.refuse(node, path, report)

    @override
    def words(self) -> str:
        return f"a whole number of at least 1, or '{self.word}'"

    @override
    def json_schema(self) -> dict[str, Any]:
        return {"anyOf": [{"type": "integer", "minimum": 1}, {"const": self.word}]}


@final
@dataclass(frozen=True)
class FlagMap(Kind):
    """`{enabled: true}`, or true or false alone."""

    section: Section

    @override
    def check(self, node: Node, path: str, report: Report) -> Any:
        if isinstance(node.value, bool):
            return {"enabled": node.value}
        if isinstance(node.value, Mapping):
            return self.section.read(node, path, report)
        return self.refuse(node, path, report, flag_hint(node))

    @override
    def words(self) -> str:
        return "{enabled: true}, or true or false"

    @override
    def json_schema(self) -> dict[str, Any]:
        return {"anyOf": [{"type": "boolean"}, self.section.json_schema()]}


MESH: Final = Section(
    (
        Key("data", Whole(1), "Slots over which each batch is split.", 1),
        Key("tensor", Whole(1), "Slots over which each layer is split.", 1),
    )
)
"""The keys of a mesh, in the order in which `[2, 1]` gives them."""


@final
@dataclass(frozen=True)
class MeshShape(Kind):
    """`{data: 2, tensor: 1}`, or `[2, 1]` or `"2,1"` in that order."""

    @override
    def check(self, node: Node, path: str, report: Report) -> Any:
        if isinstance(node.value, Mapping) and node.value:
            values = MESH.read(node, path, report)
            return values if len(values) == len(MESH.keys) and set(node.value) <= set(values) else BAD
        if isinstance(node.value, tuple):
            if len(node.value) != len(MESH.names):
                report.mistake(node.place, f"'{path}' must be {self.words()}, not a list of {len(node.value)}.")
                return BAD
            sizes = [Whole(1).read(item, f"{path}[{n}]", report) for n, item in enumerate(node.value)]
            return BAD if BAD in sizes else dict(zip(MESH.names, sizes, strict=True))
        match = _PAIR.match(node.value) if isinstance(node.value, str) else None
        if match is None:
            return self.refuse(node, path, report)
        return dict(zip(MESH.names, map(int, match.groups()), strict=True))

    @override
    def words(self) -> str:
        return "{data: n, tensor: n}, [n, n] or 'n,n' with whole numbers of at least 1"

    @override
    def json_schema(self) -> dict[str, Any]:
        size = {"type": "integer", "minimum": 1}
        pair = {"type": "array", "items": size, "minItems": 2, "maxItems": 2}
        written = {"type": "string", "pattern": _PAIR.pattern}
        return {"anyOf": [{**MESH.json_schema(), "minProperties": 1}, pair, written]}


_PAIR: Final = re.compile(r"^\s*([1-9][0-9]*)\s*,\s*([1-9][0-9]*)\s*$")


@final
@dataclass(frozen=True)
class TrialReference(Kind):
    """A trial as `EXPERIMENT.TRIAL`; `3.10` need not be quoted."""

    @override
    def check(self, node: Node, path: str, report: Report) -> Any:
        written = node.value if isinstance(node.value, str) else node.text
        if written is None or not re.fullmatch(r"[1-9][0-9]*\.[1-9][0-9]*", written):
            return self.refuse(node, path, report)
        return written

    @override
    def words(self) -> str:
        return "a trial as EXPERIMENT.TRIAL, such as '3.1'"

    @override
    def json_schema(self) -> dict[str, Any]:
        return {"anyOf": [{"type": "string", "pattern": r"^[1-9][0-9]*\.[1-9][0-9]*$"}, {"type": "number"}]}


_CLASS: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_LAUNCH: Final = re.compile(r"\bdetermined\.launch\.(\w+)")
_OURS: Final = "mnist_trials.launch.torch_distributed"
_NEEDS_SHELL: Final = re.compile(r"[|&;<>()$`\\*?\[\]{}~#\n]|^\s*\w+=")


@final
@dataclass(frozen=True)
class EntrypointShape(Kind):
    """`module:TrialClass` (read as a string), or a command (read as a list of words).

    A command given as a string is run directly, or by `sh -c` where it holds what only a shell understands.
    """

    @override
    def check(self, node: Node, path: str, report: Report) -> Any:
        if isinstance(node.value, tuple) and node.value:
            return self._words(node.value, path, report)
        text = Text(longest=16_384, lines=True, meant=self.words()).read(node, path, report)
        if text is BAD or _CLASS.fullmatch(text.strip()):
            return BAD if text is BAD else text.strip()
        if message := _no_command(text.strip()):
            report.mistake(node.place, message)
            return BAD
        return _split(_with_our_launcher(text.strip(), node, report), node, report)

    def _words(self, items: tuple[Node, ...], path: str, report: Report) -> Any:
        words = []
        for i, item in enumerate(items):
            word = item.value if isinstance(item.value, str) else item.text
            if not word and item.value != "":
                Text().read(item, f"{path}[{i}]", report)
                return BAD
            words.append(_with_our_launcher(str(word), item, report))
        return BAD if BAD in words else words

    @override
    def words(self) -> str:
        return "'module:TrialClass', or a command as a string or a list of strings"

    @override
    def json_schema(self) -> dict[str, Any]:
        word = {"type": ["string", "number", "boolean"]}
        return {"anyOf": [{"type": "string", "minLength": 1}, {"type": "array", "minItems": 1, "items": word}]}


def _no_command(text: str) -> str | None:
    """Why `text`, which is no module:Class, can be no command either."""
    if text.endswith(".py") and " " not in text:
        return f"the entrypoint {quoted(text)} is no command. Did you mean 'python3 {text}'?"
    if ":" in text and "/" not in text and len(text.split()) == 1:
        return f"the entrypoint {quoted(text)} is neither 'module:TrialClass' nor a command."
    return None


def _with_our_launcher(text: str, node: Node, report: Report) -> Any:
    other = next((name for name in _LAUNCH.findall(text) if name != "torch_distributed"), None)
    if other is not None:
        report.mistake(
            node.place, f"the launch layer 'determined.launch.{other}' has no counterpart here; use '{_OURS}'."
        )
        return BAD
    return _LAUNCH.sub(_OURS, text)


def _split(text: Any, node: Node, report: Report) -> Any:
    if text is BAD:
        return BAD
    if _NEEDS_SHELL.search(text):
        return ["sh", "-c", text]
    try:
        return shlex.split(text)
    except ValueError as error:
        report.mistake(node.place, f"the entrypoint {quoted(text)} cannot be split into words: {error}.")
        return BAD
