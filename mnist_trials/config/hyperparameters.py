"""The `hyperparameters` section: constants, ranges, and maps of them.

A plain value is a constant. A map with a `type` is a constant or a range; any other map is a group.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, final

from typing_extensions import override

from mnist_trials.config.kinds import BAD, Anything, Choice, Kind, ListOf, Real, Whole, one_of
from mnist_trials.config.nodes import Node, describe, plain, quoted
from mnist_trials.config.report import Report, did_you_mean
from mnist_trials.config.sections import REQUIRED, Key, Section, Values, child

_COUNT: Final = Key(
    "count", Whole(1), "How many values a grid takes from the range, evenly spaced, both ends included."
)


def _ordered(values: Values, node: Node, path: str, report: Report) -> None:
    low, high = values.get("minval"), values.get("maxval")
    if low is not None and high is not None and low >= high:
        report.mistake(node.place, f"in '{path}' minval must be below maxval; they are {low} and {high}.")


def _log_fits(values: Values, node: Node, path: str, report: Report) -> None:
    base = values.get("base")
    if base == 1.0:
        report.mistake(node.place, f"in '{path}' every power of the base 1 is 1; take another base.")
    for end in ("minval", "maxval"):
        if base is not None and values.get(end) is not None and not _is_finite_power(base, values[end]):
            report.mistake(
                node.place,
                f"in '{path}' {base:g} to the power {values[end]:g} is beyond all numbers; minval and maxval are "
                "exponents.",
            )


def _is_finite_power(base: float, exponent: float) -> bool:
    try:
        return math.isfinite(base**exponent)
    except OverflowError:
        return False


def _leaf(name: str, *keys: Key, ordered: bool = True) -> Section:
    checks = (_ordered, _log_fits) if name == "log" else (_ordered,)
    kind = Key("type", Choice((name,)), "Which of these it is.", REQUIRED)
    return Section((kind, *keys), checks=checks if ordered else ())


def _ends(kind: Kind, what: str) -> tuple[Key, Key]:
    return (
        Key("minval", kind, f"The smallest {what}.", REQUIRED),
        Key("maxval", kind, f"The largest {what}.", REQUIRED),
    )


LEAVES: Final[dict[str, Section]] = {
    "const": _leaf("const", Key("val", Anything(), "The value.", REQUIRED), ordered=False),
    "int": _leaf("int", *_ends(Whole(), "value, itself included"), _COUNT),
    "double": _leaf("double", *_ends(Real(), "value"), _COUNT),
    "log": _leaf(
        "log",
        Key("base", Real(above=0), "The base; a value is base to the power of a number from the range.", 10.0),
        *_ends(Real(), "exponent"),
        _COUNT,
    ),
    "categorical": _leaf(
        "categorical", Key("vals", ListOf(Anything(), 1), "The values to choose from.", REQUIRED), ordered=False
    ),
}
"""The keys of each type of hyperparameter."""


@final
@dataclass(frozen=True)
class Hyperparameters(Kind):
    """A map of hyperparameters and groups of them. Read with constants plain and ranges as `{type: ...}` maps."""

    @override
    def check(self, node: Node, path: str, report: Report) -> Any:
        return _group(node, path, report) if isinstance(node.value, Mapping) else self.refuse(node, path, report)

    @override
    def words(self) -> str:
        return "a map of hyperparameters"

    @override
    def json_schema(self) -> dict[str, Any]:
        return {"$ref": "#/definitions/hyperparameters"}


def definitions() -> dict[str, Any]:
    """The JSON Schema definition that `Hyperparameters` refers to: it holds itself."""
    group: dict[str, Any] = {"$ref": "#/definitions/hyperparameters"}
    typed = {"required": ["type"], "properties": {"type": {"not": {"type": "object"}}}}
    leaf = {"anyOf": [section.json_schema() for section in LEAVES.values()]}
    item = {"if": {"type": "object"}, "then": {"if": typed, "then": leaf, "else": group}}
    return {
        "hyperparameters": {
            "type": "object",
            "propertyNames": {"minLength": 1, "pattern": "^[^.]+$"},
            "additionalProperties": item,
        }
    }


def _group(node: Node, path: str, report: Report) -> Values:
    assert isinstance(node.value, Mapping)
    values: Values = {}
    for name, entry in node.value.items():
        if not name or "." in name:
            report.mistake(entry.key, f"the hyperparameter name {quoted(name)} must not be empty or hold a point.")
            continue
        value = _hyperparameter(entry.node, child(path, name), report)
        if value is not BAD:
            values[name] = value
    return values


def _hyperparameter(node: Node, path: str, report: Report) -> Any:
    if isinstance(node.value, tuple):
        return _list(node, path, report)
    if not isinstance(node.value, Mapping):
        return Anything().read(node, path, report)
    kind = node.value.get("type")
    if kind is None or isinstance(kind.node.value, Mapping):
        return _group(node, path, report)
    name = kind.node.value
    if not isinstance(name, str) or name not in LEAVES:
        hint = did_you_mean(name, LEAVES) if isinstance(name, str) else ""
        report.mistake(
            kind.node.place, f"'{path}.type' must be {one_of(list(LEAVES))}, not {describe(kind.node)}.{hint}"
        )
        return BAD
    values = LEAVES[name].read(node, path, report)
    if name == "const":
        return _constant(values)
    return {key: value for key, value in values.items() if value is not None}


def _list(node: Node, path: str, report: Report) -> Any:
    value = plain(node)
    if _holds_range(value):
        report.mistake(
            node.place, f"'{path}' is a list, which is a constant: a range cannot stand in it. Use a map, or 'const'."
        )
        return BAD
    return value


def _constant(values: Values) -> Any:
    """A constant plain, unless it would be read as something else then."""
    if "val" not in values:
        return BAD
    value = values["val"]
    return values if isinstance(value, dict) or _holds_range(value) else value


def _holds_range(value: Any) -> bool:
    if isinstance(value, list):
        return any(_holds_range(item) for item in value)
    if isinstance(value, dict):
        return value.get("type") in tuple(LEAVES) or any(_holds_range(item) for item in value.values())
    return False


def leaf_type(value: Any) -> str | None:
    """The type of a resolved hyperparameter that is a `{type: ...}` map; None for a plain constant or a group."""
    kind = value.get("type") if isinstance(value, Mapping) else None
    return kind if isinstance(kind, str) else None


def ranges(hyperparameters: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every range in resolved `hyperparameters`, as (dotted path, its map), by name."""
    for name in sorted(hyperparameters):
        value = hyperparameters[name]
        kind = leaf_type(value)
        if kind is not None and kind != "const":
            yield child(path, name), value
        elif kind is None and isinstance(value, Mapping):
            yield from ranges(value, child(path, name))
