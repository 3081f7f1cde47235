"""Maps with known keys: the sections of a config."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, cast, final

from typing_extensions import override

from mnist_trials.config.kinds import BAD, Kind
from mnist_trials.config.nodes import Entry, Node, describe, plain, quoted
from mnist_trials.config.report import Report, did_you_mean

REQUIRED: Final = object()
"""As the default of a key: there is none, the key must be given."""

Values = dict[str, Any]
"""A section as read; keys with a mistake in their value are not in it."""

Check = Callable[[Values, Node, str, Report], None]
"""Looks at a whole section: (values, node, path, report)."""


@final
@dataclass(frozen=True)
class Key:
    """One key of a section. `meaning` is its line in the documentation."""

    name: str
    kind: Kind
    meaning: str
    default: Any = None

    @property
    def required(self) -> bool:
        """Whether the key has no default."""
        return self.default is REQUIRED


def child(path: str, name: str) -> str:
    """The dotted path of `name` within `path` ("" is the root)."""
    return f"{path}.{name}" if path else name


@final
@dataclass(frozen=True)
class Section(Kind):
    """A map with known keys. `foreign` ones are accepted and ignored; with `open` unknown ones are kept as they are."""

    keys: tuple[Key, ...]
    foreign: tuple[str, ...] = ()
    open: bool = False
    checks: tuple[Check, ...] = ()

    @property
    def names(self) -> list[str]:
        """The names of the known keys."""
        return [key.name for key in self.keys]

    def defaults(self) -> Values:
        """The section as it is when it is left out; every key must have a default."""
        return {key.name: copy.deepcopy(key.default) for key in self.keys}

    @override
    def check(self, node: Node, path: str, report: Report) -> Any:
        if not isinstance(node.value, Mapping):
            return self.refuse(node, path, report)
        values: Values = {}
        for key in self.keys:
            value = self._value(key, node, path, report)
            if value is not BAD:
                values[key.name] = value
        known = {*self.names, *self.foreign}
        for name, entry in node.value.items():
            if name in self.foreign:
                report.foreign(entry.key, child(path, name))
            elif name not in known and self.open:
                values[name] = plain(entry.node)
            elif name not in known:
                report.mistake(entry.key, self._unknown(name, path))
        for check in self.checks:
            check(values, node, path, report)
        return values

    def _value(self, key: Key, node: Node, path: str, report: Report) -> Any:
        entry = cast("Mapping[str, Entry]", node.value).get(key.name)
        given = entry is not None and (entry.node.value is not None or key.kind.null_is_a_value)
        if entry is not None and given:
            return key.kind.read(entry.node, child(path, key.name), report)
        if not key.required:
            return copy.deepcopy(key.default)
        place = entry.node.place if entry is not None else node.place
        where = f"'{path}' needs the key '{key.name}'" if path else f"the key '{key.name}' is missing"
        report.mistake(place, f"{where}: {key.meaning[:1].lower()}{key.meaning[1:]}")
        return BAD

    def _unknown(self, name: str, path: str) -> str:
        where = f" in '{path}'" if path else ""
        hint = did_you_mean(name, self.names)
        if not hint:
            below = [key.name for key in self.keys if name in known_names(key.kind)]
            hint = f" Did you mean '{child(path, below[0])}.{name}'?" if below else ""
        return f"unknown key {quoted(name)}{where}.{hint} Known: {', '.join(sorted(self.names))}."

    @override
    def words(self) -> str:
        return "a map"

    @override
    def json_schema(self) -> dict[str, Any]:
        properties: dict[str, Any] = {key.name: _property(key) for key in self.keys}
        for name in self.foreign:
            properties[name] = {"description": "Means nothing here; ignored with a warning."}
        schema: dict[str, Any] = {"type": "object", "properties": properties}
        if required := [key.name for key in self.keys if key.required]:
            schema["required"] = required
        return schema if self.open else {**schema, "additionalProperties": False}


def _property(key: Key) -> dict[str, Any]:
    schema = key.kind.json_schema()
    if not key.required and not key.kind.null_is_a_value:
        schema = _or_null(schema)
    described = {**schema, "description": key.meaning}
    if not key.required and key.default is not None:
        described["default"] = key.default
    return described


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    if set(schema) == {"anyOf"}:
        return {"anyOf": [*schema["anyOf"], {"type": "null"}]}
    if set(schema) == {"enum"}:
        return {"enum": [*schema["enum"], None]}
    if "type" in schema and "allOf" not in schema:
        return {**schema, "type": [schema["type"], "null"]}
    return {"anyOf": [schema, {"type": "null"}]}


@final
@dataclass(frozen=True)
class ByName(Kind):
    """A map whose keys depend on the value of one of them, the `selector`.

    `others` is for values that are not in `tables`: a plugin's, which checks the rest of its keys itself.
    `unnamed` is for a map without the selector that has no keys but these.
    """

    selector: str
    tables: Mapping[str, Section]
    others: Section
    unnamed: Section | None = None

    @override
    def check(self, node: Node, path: str, report: Report) -> Any:
        if not isinstance(node.value, Mapping):
            return self.refuse(node, path, report)
        table = self._table(node.value)
        selected = node.value.get(self.selector)
        if selected is None and table is self.others:
            return self._without_selector(node, path, report)
        known = {}
        for name, entry in node.value.items():
            if not table.open and selected is not None and (meant := self._meant_elsewhere(name, table)):
                report.mistake(entry.key, self._misplaced(name, meant, path, selected.node))
            else:
                known[name] = entry
        return table.read(Node(node.place, known), path, report)

    def _without_selector(self, node: Node, path: str, report: Report) -> Any:
        """Report that the selector is missing; any key of any table may stand beside it."""
        assert isinstance(node.value, Mapping)
        elsewhere = set(known_names(self)) - set(self.others.names)
        entries = {name: entry for name, entry in node.value.items() if name not in elsewhere}
        return replace(self.others, open=False).read(Node(node.place, entries), path, report)

    def _meant_elsewhere(self, name: str, table: Section) -> str | None:
        """The key of another table that `name` is, or is nearest to."""
        if name in table.names:
            return None
        names = dict.fromkeys(key for each in self.tables.values() for key in each.names)
        near = [name] if name in names else difflib.get_close_matches(name, names, n=1)
        return near[0] if near and near[0] not in table.names else None

    def _misplaced(self, name: str, meant: str, path: str, selected: Node) -> str:
        takers = [taker for taker, table in self.tables.items() if meant in table.names]
        hint = "" if name == meant else f" Did you mean {quoted(meant)}?"
        return (
            f"unknown key {quoted(name)} in '{path}'.{hint} It is not for {describe(selected)}, but for "
            f"{', '.join(takers)}."
        )

    def _table(self, entries: Mapping[str, Entry]) -> Section:
        entry = entries.get(self.selector)
        name = entry.node.value if entry is not None else None
        if name is None and self.unnamed is not None and set(entries) <= {self.selector, *self.unnamed.names}:
            return self.unnamed
        return self.tables.get(name, self.others) if isinstance(name, str) else self.others

    @override
    def words(self) -> str:
        return "a map"

    @override
    def json_schema(self) -> dict[str, Any]:
        given = {"required": [self.selector], "properties": {self.selector: {"type": "string"}}}
        rules: list[Values] = [
            {"if": _selected(self.selector, name), "then": table.json_schema()} for name, table in self.tables.items()
        ]
        known = {"properties": {self.selector: {"enum": list(self.tables)}}}
        rules.append({"if": {"allOf": [given, {"not": known}]}, "then": self.others.json_schema()})
        if self.unnamed is not None:
            rules.append({"if": {"not": given}, "then": self.unnamed.json_schema()})
        else:
            rules.append({"required": [self.selector]})
        return {"type": "object", "allOf": rules}


def _selected(selector: str, name: str) -> Values:
    return {"required": [selector], "properties": {selector: {"const": name}}}


@final
@dataclass(frozen=True)
class Named(Kind):
    """A plugin: its name alone, or a map of `name` and the plugin's own options."""

    section: Section

    @override
    def check(self, node: Node, path: str, report: Report) -> Any:
        if isinstance(node.value, str):
            node = Node(node.place, {"name": Entry(node.place, node)})
        elif not isinstance(node.value, Mapping):
            return self.refuse(node, path, report)
        values = self.section.read(node, path, report)
        return values if "name" in values else BAD

    @override
    def words(self) -> str:
        return "a name, or a map of 'name' and options"

    @override
    def json_schema(self) -> dict[str, Any]:
        return {"anyOf": [{"type": "string", "minLength": 1}, self.section.json_schema()]}


def known_names(kind: Kind) -> Iterable[str]:
    """The keys that a section of this kind can have."""
    if isinstance(kind, Section):
        return kind.names
    if isinstance(kind, ByName):
        tables = [*kind.tables.values(), kind.others]
        return dict.fromkeys(name for table in tables for name in table.names)
    return ()
