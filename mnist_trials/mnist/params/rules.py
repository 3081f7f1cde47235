"""What may become of a key of a reference's file; the tables are made of these."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from mnist_trials.config.nodes import Node, describe, plain
from mnist_trials.mnist.params.draft import Draft, Rule
from mnist_trials.plugin.rate_options import Option

TEXT: Final = Option(lambda value: isinstance(value, str), "a text")
TEXTS: Final = Option(
    lambda value: isinstance(value, list) and all(isinstance(item, str) for item in value), "a list of texts"
)
WHOLE: Final = Option(
    lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= 0,
    "a whole number of at least 0",
)
SIZES: Final = Option(
    lambda value: isinstance(value, list) and len(value) > 0 and all(type(item) is int and item > 0 for item in value),
    "a list of whole numbers of at least 1",
)


def one_of(*names: str) -> Option:
    """One of `names`, in small or capital letters."""
    low = [name.lower() for name in names]
    return Option(lambda value: isinstance(value, str) and value.lower() in low, f"one of {', '.join(names)}")


def becomes(target: str, kind: Option, convert: Callable[[Any], Any] | None = None) -> Rule:
    """The value is that of the config's key `target`, by way of `convert`."""

    def rule(path: str, node: Node, draft: Draft) -> None:
        if _take(path, node, draft, kind):
            value = draft.values[path]
            draft.set(target, value if convert is None else convert(value))

    return rule


def kept(kind: Option) -> Rule:
    """The value is looked at together with others, when all keys were read."""

    def rule(path: str, node: Node, draft: Draft) -> None:
        _take(path, node, draft, kind)

    return rule


def must_be(value: Any, why: str) -> Rule:
    """The value is what is done here anyhow; any other is refused."""

    def rule(path: str, node: Node, draft: Draft) -> None:
        given = plain(node)
        if type(given) is not type(value) or given != value:
            draft.mistake(path, f"'{path}' is {describe(node)}, which cannot be had here: {why}.")

    return rule


def meaningless() -> Rule:
    """Nothing here depends on it."""
    return lambda path, node, draft: draft.meaningless(path)


def elsewhere(how: str) -> Rule:
    """It has no place in a config; `how` says where it has one."""
    return lambda path, node, draft: draft.warn(path, f"'{path}' is not taken over: {how}.")


def when(condition: Any, then: Rule) -> Rule:
    """`then` where the value is `condition`; any other asks for nothing."""

    def rule(path: str, node: Node, draft: Draft) -> None:
        if plain(node) == condition:
            then(path, node, draft)

    return rule


def refused(why: str) -> Rule:
    """It cannot be had here."""
    return lambda path, node, draft: draft.mistake(path, f"'{path}' cannot be had here: {why}.")


def _take(path: str, node: Node, draft: Draft, kind: Option) -> bool:
    value = plain(node)
    if fits := kind.fits(value):
        draft.values[path] = value
    else:
        draft.mistake(path, f"'{path}' must be {kind.words}, not {describe(node)}.")
    return fits
