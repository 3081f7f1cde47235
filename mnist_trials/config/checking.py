"""From nodes to a checked document: the whole config as JSON in its canonical form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mnist_trials.config.keys import EXPERIMENT
from mnist_trials.config.nodes import UNREADABLE, Node, NotAConfigValue, Place, describe, from_python
from mnist_trials.config.report import Report
from mnist_trials.config.rules import check_together


def mapping_root(mapping: Mapping[str, Any], report: Report) -> Node:
    """The root node of a config given as a map; UNREADABLE, and reported, where it holds what no config can."""
    try:
        return from_python(mapping)
    except NotAConfigValue as error:
        report.mistake(Place(), f"'{error.path}': {error}." if error.path else f"{error}.")
        return Node(Place(), UNREADABLE)


def require_map(root: Node, report: Report) -> None:
    """End here if `root` is no map.

    Raises:
        ConfigError: it is not, or could not be read.
    """
    if root.value is None:
        report.mistake(root.place, "the file is empty; a config needs 'entrypoint' and 'searcher' at least.")
    elif root.value is not UNREADABLE and not isinstance(root.value, Mapping):
        report.mistake(root.place, f"a config is a map of keys to values, not {describe(root)}.")
    if not isinstance(root.value, Mapping):
        report.check()


def check(root: Node, name: str, report: Report) -> dict[str, Any]:
    """The document behind `root`, every default filled in; `name` is the default of `name`.

    Raises:
        ConfigError: there are mistakes; all of them are in it.
    """
    require_map(root, report)
    values: dict[str, Any] = EXPERIMENT.read(root, "", report)
    check_together(values, root, report)
    report.check()
    return {**values, "name": values["name"] or name}
