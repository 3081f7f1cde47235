"""Kinds of values: what a key may hold. Each checks a value, and tells a person or a JSON Schema what it takes.

The table of keys (`keys.py`) is made of these; loading, the JSON Schema and the documentation all come from it.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, final

from typing_extensions import override

from mnist_trials.config.nodes import UNREADABLE, Node, Unreadable, describe, plain, quoted
from mnist_trials.config.report import Report, did_you_mean
from mnist_trials.config.scalars import resolve
from mnist_trials.config.secrets import is_secret

BAD: Final = UNREADABLE
"""What `read` gives for a value with a mistake in it; the mistake is in the report."""


class Kind(ABC):
    """What a value may be."""

    null_is_a_value: ClassVar[bool] = False  # else null means that the key was left out

    def read(self, node: Node, path: str, report: Report) -> Any:
        """The value as JSON in its one canonical form, or BAD after reporting why. `path` is dotted, for messages."""
        return BAD if isinstance(node.value, Unreadable) else self.check(node, path, report)

    @abstractmethod
    def check(self, node: Node, path: str, report: Report) -> Any:
        """As `read`, of a node that is readable."""

    @abstractmethod
    def words(self) -> str:
        """What the value must be, to stand after "must be"."""

    @abstractmethod
    def json_schema(self) -> dict[str, Any]:
        """The same as JSON Schema (draft 7)."""

    def refuse(self, node: Node, path: str, report: Report, hint: str = "") -> Any:
        """Report that `node` is not of this kind."""
        told = f", not {describe(node)}.{hint}"
        if is_secret(path):
            told = f"; what was given is not shown.{' Put it in quotes.' if node.text else ''}"
        report.mistake(node.place, f"'{path}' must be {self.words()}{told}")
        return BAD


@final
@dataclass(frozen=True)
class Text(Kind):
    """A string of one line, or of several with `lines`; never empty unless `empty`."""

    longest: int = 4096
    lines: bool = False
    empty: bool = False
    pattern: str | None = None
    meant: str = "a string"

    @override
    def check(self, node: Node, path: str, report: Report) -> Any:
        value = node.value
        if not isinstance(value, str):
            return self.refuse(node, path, report, f" Put it in quotes: '{node.text}'." if node.text else "")
        if len(value) > self.longest:
            report.mistake(node.place, f"'{path}' may be {self.longest:,} characters long, not {len(value):,}.")
            return BAD
        if not self.empty and not value.strip():
            report.mistake(node.place, f"'{path}' must not be empty.")
            return BAD
        if unfit := _unfit(value, self.lines):
            report.mistake(node.place, f"'{path}' must not hold {unfit}.")
            return BAD
        if self.pattern is not None and not re.fullmatch(self.pattern, value):
            return self.refuse(node, path, report)
        return value

    @override
    def words(self) -> str:
        return self.meant

    @override
    def json_schema(self) -> dict[str, Any]:
        schema: dict[str, Any] = {"type": "string", "maxLength": self.longest}
        if not self.empty:
            schema["minLength"] = 1
        if self.pattern is not None:
            schema["pattern"] = f"^({self.pattern})$"
        return schema


def _unfit(text: str, lines: bool) -> str | None:
    """What `text` holds that no text here may hold, in words; None where it is fit."""
    allowed = "\n\t" if lines else ""
    control = next((c for c in text if (c < " " or c == "\x7f") and c not in allowed), None)
    if control is not None:
        return f"the control character {control!r}"
    half = re.search("[\ud800-\udfff]", text)  # of an escape, or of bytes that are no UTF-8
    return None if half is None else f"{half[0]!r}, which is half a character"


@final
@dataclass(frozen=True)
class Whole(Kind):
    """A whole number, bounds included."""

    minimum: int | None = None
    maximum: int | None = None

    @override
    def check(self, node: Node, path: str, report: Report) -> Any:
        value = node.value
        if isinstance(value, bool) or not isinstance(value, int):
            return self.refuse(node, path, report, _whole_hint(node))
        if not _within(value, self.minimum, self.maximum):
            return self.refuse(node, path, report)
        return value

    @override
    def words(self) -> str:
        return "a whole number" + _bounds(self.minimum, self.maximum)

    @override
    def json_schema(self) -> dict[str, Any]:
        bounds = {"minimum": self.minimum, "maximum": self.maximum}
        return {"type": "integer", **{name: value for name, value in bounds.items() if value is not None}}


def _whole_hint(node: Node) -> str:
    if isinstance(node.value, float) and node.value.is_integer() and abs(node.value) < 2**53:
        return f" Write {int(node.value)}."
    return _number_hint(node)


def _number_hint(node: Node) -> str:
    try:
        number = resolve(node.value) if isinstance(node.value, str) else None
    except ValueError:
        return ""
    return " Leave the quotes off." if isinstance(number, int | float) and not isinstance(number, bool) else ""


def _within(value: float, minimum: float | None, maximum: float | None) -> bool:
    return (minimum is None or value >= minimum) and (maximum is None or value <= maximum)


def _bounds(minimum: float | None, maximum: float | None) -> str:
    if minimum is not None and maximum is not None:
        return f" from {minimum} to {maximum}"
    return "" if minimum is None else f" of at least {minimum}"


@final
@dataclass(frozen=True)
class Real(Kind):
    """A number; read as a float unless `keep_int`. `above` is itself not allowed, the other bounds are."""

    above: float | None = None
    keep_int: bool = False
    minimum: float | None = None
    maximum: float | None = None

    @override
    def check(self, node: Node, path: str, report: Report) -> Any:
        value = node.value
        if isinstance(value, bool) or not isinstance(value, int | float):
            return self.refuse(node, path, report, _number_hint(node))
        if (self.above is not None and value <= self.above) or not _within(value, self.minimum, self.maximum):
            return self.refuse(node, path, report)
        return int(value) if self.keep_int and value == int(value) else float(value)

    @override
    def words(self) -> str:
        return "a number" + (_bounds(self.minimum, self.maximum) if self.above is None else f" above {self.above:g}")

    @override
    def json_schema(self) -> dict[str, Any]:
        bounds = {"exclusiveMinimum": self.above, "minimum": self.minimum, "maximum": self.maximum}
        return {"type": "number", **{name: value for name, value in bounds.items() if value is not None}}


@final
@dataclass(frozen=True)
class Flag(Kind):
    """True or false."""

    @override
    def check(self, node: Node, path: str, report: Report) -> Any:
        if isinstance(node.value, bool):
            return node.value
        return self.refuse(node, path, report, flag_hint(node))

    @override
    def words(self) -> str:
        return "true or false"

    @override
    def json_schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


def flag_hint(node: Node) -> str:
    """What to write instead of YAML 1.1's words for true and false."""
    word = {"yes": "true", "on": "true", "no": "false", "off": "false"}.get(str(node.value).lower())
    return f" Write {word}." if word else ""


@final
@dataclass(frozen=True)
class Choice(Kind):
    """One of some values, strings and perhaps true or false."""

    values: tuple[str | bool, ...]

    @override
    def check(self, node: Node, path: str, report: Report) -> Any:
        value = node.value
        if isinstance(value, str | bool) and value in self.values:
            return value
        hint = flag_hint(node) if True in self.values else ""
        if isinstance(value, str) and not hint:
            hint = did_you_mean(value, [name for name in self.values if isinstance(name, str)])
        return self.refuse(node, path, report, hint)

    @override
    def words(self) -> str:
        return one_of([str(value).lower() if isinstance(value, bool) else value for value in self.values])

    @override
    def json_schema(self) -> dict[str, Any]:
        return {"enum": list(self.values)}


@final
@dataclass(frozen=True)
class ListOf(Kind):
    """A list of values of one kind."""

    item: Kind
    shortest: int = 0

    @override
    def check(self, node: Node, path: str, report: Report) -> Any:
        if not isinstance(node.value, tuple) or len(node.value) < self.shortest:
            return self.refuse(node, path, report)
        values = [self.item.read(item, f"{path}[{i}]", report) for i, item in enumerate(node.value)]
        return BAD if any(value is BAD for value in values) else values

    @override
    def words(self) -> str:
        size = f" of at least {self.shortest}" if self.shortest else ""
        return f"a list{size}, each item {self.item.words()}"

    @override
    def json_schema(self) -> dict[str, Any]:
        schema: dict[str, Any] = {"type": "array", "items": self.item.json_schema()}
        return {**schema, "minItems": self.shortest} if self.shortest else schema


@final
@dataclass(frozen=True)
class Anything(Kind):
    """Any value, null included; kept as it is."""

    null_is_a_value: ClassVar[bool] = True

    @override
    def check(self, node: Node, path: str, report: Report) -> Any:
        return plain(node)

    @override
    def words(self) -> str:
        return "anything"

    @override
    def json_schema(self) -> dict[str, Any]:
        return {}


@final
@dataclass(frozen=True)
class FreeMap(Kind):
    """A map with keys and values of any kind; kept as it is."""

    @override
    def check(self, node: Node, path: str, report: Report) -> Any:
        return plain(node) if isinstance(node.value, Mapping) else self.refuse(node, path, report)

    @override
    def words(self) -> str:
        return "a map"

    @override
    def json_schema(self) -> dict[str, Any]:
        return {"type": "object"}


def one_of(names: Sequence[str]) -> str:
    """`a, b or c`, each in quotes but for true and false."""
    spelt = [name if name in ("true", "false") else quoted(name) for name in names]
    return spelt[0] if len(spelt) == 1 else f"{', '.join(spelt[:-1])} or {spelt[-1]}"
