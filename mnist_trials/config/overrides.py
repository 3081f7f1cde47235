"""`--config a.b=VALUE`: one value of a config, set from the command line."""

from __future__ import annotations

from collections.abc import Mapping

from mnist_trials.config.nodes import Entry, Node, Place, describe
from mnist_trials.config.reader import read_yaml
from mnist_trials.config.report import Report
from mnist_trials.config.secrets import HIDDEN, is_secret, shown_address


def override(root: Node, text: str, report: Report) -> Node:
    """`root` with the override `text` (`a.b=VALUE`, VALUE as YAML) carried out; maps on the way are made.

    A mistake goes to `report`, and `root` is returned as it was.
    """
    place = Place(_as_typed(text))
    path, equals, value = text.partition("=")
    names = [name.strip() for name in path.split(".")]
    if not equals or not all(names):
        report.mistake(place, "an override is written KEY=VALUE, such as searcher.max_trials=8.")
        return root
    node = read_yaml(value, str(place.source), report, lines=False)
    if node is None:
        node = Node(place, None)
    return _set(root, names, [], node, report)


def _set(node: Node, names: list[str], above: list[str], value: Node, report: Report) -> Node:
    name, below = names[0], names[1:]
    entries: Mapping[str, Entry] = {}
    if isinstance(node.value, Mapping):
        entries = node.value
    elif node.value is not None:
        where = f" ({node.place.source}:{node.place.line}:{node.place.column})" if node.place.line else ""
        what = "a value" if is_secret(".".join(above)) else describe(node)
        report.mistake(value.place, f"'{'.'.join(above)}' is {what}{where} and not a map; it has no '{name}'.")
        return node
    old = entries.get(name)
    inner = old.node if old is not None else Node(value.place, None)
    new = _set(inner, below, [*above, name], value, report) if below else value
    key = old.key if old is not None else value.place
    return Node(node.place, {**entries, name: Entry(key, new)})


def _as_typed(text: str) -> str:
    """The override as messages name it: cut when it is long, and with bytes that are no text spelt out."""
    key, equals, _ = text.partition("=")
    if equals and is_secret(key):
        text = f"{key}={HIDDEN}"
    text = shown_address(text)
    shown = text if len(text) <= 120 else text[:117] + "..."
    return "--config " + shown.encode("utf-8", "backslashreplace").decode()
