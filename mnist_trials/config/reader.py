"""YAML text to nodes.

Read as YAML 1.2 core, whatever PyYAML itself would make of a scalar, and with bounds that keep a small file from
costing much: no aliases, no tags, one document, at most 1 MB, 10,000 nodes and 50 levels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, final

import yaml

from mnist_trials.config.nodes import MAX_LEVELS, UNREADABLE, Entry, Node, Place, quoted
from mnist_trials.config.report import Report
from mnist_trials.config.scalars import resolve
from mnist_trials.config.secrets import SECRET_NAME

MAX_BYTES: Final = 1_000_000
MAX_NODES: Final = 10_000


def read_yaml(text: str, source: str, report: Report, *, lines: bool = True) -> Node | None:
    """The root node of `text`; None when it is empty, UNREADABLE when it cannot be read to its end.

    Mistakes go to `report`. `lines` False: places name the source alone, as for an override, which has no lines.
    """
    reader = _Reader(source, report, lines)
    try:
        return reader.read(text)
    except _GiveUp:
        return Node(Place(source), UNREADABLE)


class _GiveUp(Exception):
    """The rest of the text is not worth reading; the reason is reported."""


@dataclass(slots=True)
class _Open:
    """A map or list whose end was not seen yet."""

    place: Place
    is_map: bool
    items: list[Node] = field(default_factory=list)
    entries: dict[str, Entry] = field(default_factory=dict)
    key: Node | None = None


@final
class _Reader:
    def __init__(self, source: str, report: Report, lines: bool) -> None:
        self._source = source
        self._report = report
        self._lines = lines
        self._open: list[_Open] = []
        self._root: Node | None = None
        self._nodes = 0
        self._documents = 0

    def read(self, text: str) -> Node | None:
        try:
            for event in yaml.parse(text, Loader=yaml.SafeLoader):
                self._take(event)
        except yaml.reader.ReaderError as error:
            self._stop(self._offset(text, error.position), f"not valid YAML: the character {error.character:#x}.")
        except yaml.MarkedYAMLError as error:
            self._stop(
                self._place(error.problem_mark or error.context_mark), f"not valid YAML: {_reason(error, self._lines)}."
            )
        return self._root

    def _take(self, event: yaml.Event) -> None:
        place = self._place(event.start_mark)
        match event:
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    self._stop(place, "a config is one YAML document; here a second one begins.")
            case yaml.AliasEvent():
                alias = quoted(f"*{event.anchor}")
                self._report.mistake(place, f"the alias {alias} is not allowed; write the value out.")
                self._add(Node(place, UNREADABLE))
            case yaml.ScalarEvent():
                self._no_anchor_or_tag(event, place)
                self._add(self._scalar(event, place))
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self._no_anchor_or_tag(event, place)
                self._count(place)
                self._open.append(_Open(place, isinstance(event, yaml.MappingStartEvent)))
                if len(self._open) > MAX_LEVELS:
                    self._stop(place, f"maps and lists may nest {MAX_LEVELS} levels deep at most.")
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                done = self._open.pop()
                self._put(Node(done.place, done.entries if done.is_map else tuple(done.items)))

    def _add(self, node: Node) -> None:
        self._count(node.place)
        self._put(node)

    def _put(self, node: Node) -> None:
        if not self._open:
            self._root = node
            return
        parent = self._open[-1]
        if not parent.is_map:
            parent.items.append(node)
        elif parent.key is None:
            parent.key = node
        else:
            self._set(parent, parent.key, node)
            parent.key = None

    def _set(self, parent: _Open, key: Node, node: Node) -> None:
        name = key.value
        if not isinstance(name, str):
            if name is not UNREADABLE:
                self._report.mistake(key.place, _bad_key(key))
        elif name in parent.entries:
            first = parent.entries[name].key
            where = f" (first on line {first.line})" if first.line is not None else ""
            self._report.mistake(key.place, f"the key {quoted(name)} stands twice in this map{where}.")
        else:
            parent.entries[name] = Entry(key.place, node)

    def _scalar(self, event: yaml.ScalarEvent, place: Place) -> Node:
        text: str = event.value
        if event.style is not None:
            return Node(place, text)
        try:
            return Node(place, resolve(text), text)
        except ValueError as error:
            key = self._open[-1].key if self._open else None
            hidden = key is not None and SECRET_NAME.search(str(key.value))
            self._report.mistake(place, f"put {quoted(str(key.value))} in quotes." if key and hidden else str(error))
            return Node(place, UNREADABLE)

    def _no_anchor_or_tag(self, event: yaml.NodeEvent, place: Place) -> None:
        if event.anchor is not None:
            self._report.mistake(place, f"the anchor {quoted(f'&{event.anchor}')} is not allowed; leave it out.")
        tag = getattr(event, "tag", None)
        if tag is not None:
            self._report.mistake(place, f"the tag {quoted(_spell_tag(tag))} is not allowed; leave it out.")

    def _count(self, place: Place) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            self._stop(place, f"a config may hold {MAX_NODES:,} keys and values at most.")

    def _stop(self, place: Place, message: str) -> None:
        self._report.mistake(place, message)
        raise _GiveUp

    def _place(self, mark: Any) -> Place:
        if mark is None or not self._lines:
            return Place(self._source)
        return Place(self._source, mark.line + 1, mark.column + 1)

    def _offset(self, text: str, position: int) -> Place:
        if not self._lines:
            return Place(self._source)
        before = text[:position]
        return Place(self._source, before.count("\n") + 1, position - (before.rfind("\n") + 1) + 1)


def _bad_key(key: Node) -> str:
    if key.text is not None:
        return f"a key must be a string; write '{key.text}' in quotes." if key.text else "a key is missing here."
    return "a key must be a string, not a map or a list."


def _spell_tag(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!")


def _reason(error: yaml.MarkedYAMLError, lines: bool) -> str:
    """PyYAML's complaint; the frequent ones in the words of somebody who never saw its grammar."""
    problem = error.problem or error.context or "cannot be read"
    since = f" (begun on line {error.context_mark.line + 1})" if error.context_mark is not None and lines else ""
    if "'\\t'" in problem:
        return "a tab cannot be used for indentation; use spaces"
    if problem == "mapping values are not allowed here":
        return "no ':' is expected here; put a text that holds ': ' in quotes, or mend the indentation"
    if "stream end" in problem or "end of stream" in problem:
        return f"a list, map or quoted text has no end{since}"
    if "<block end>" in problem:
        return f"this does not line up with the map or list it should belong to{since}; mend the indentation"
    if "<document start>" in problem:
        return "this stands after the end of the config"
    return f"{problem.replace('the node content', 'a value')}{since}"
