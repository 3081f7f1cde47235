"""Values of which a plain number is the short form, or one of two."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, final

from typing_extensions import override

from mnist_trials.config.kinds import BAD, Kind, Real, Whole, one_of
from mnist_trials.config.nodes import Node
from mnist_trials.config.report import Report, did_you_mean
from mnist_trials.config.sections import Key, Section

_POSITIVE: Final = Real(above=0.0)
_BATCHES: Final = Whole(1)


@final
@dataclass(frozen=True)
class PositiveOr(Kind):
    """A number above 0, or one of some words."""

    choices: tuple[str, ...]

    @override
    def check(self, node: Node, path: str, report: Report) -> Any:
        if isinstance(node.value, int | float) and not isinstance(node.value, bool) and node.value > 0:
            return float(node.value)
        if isinstance(node.value, str) and node.value in self.choices:
            return node.value
        hint = did_you_mean(node.value, self.choices) if isinstance(node.value, str) else ""
        return self.refuse(node, path, report, hint)

    @override
    def words(self) -> str:
        return f"a number above 0, {one_of(self.choices)}"

    @override
    def json_schema(self) -> dict[str, Any]:
        return {"anyOf": [_POSITIVE.json_schema(), {"enum": list(self.choices)}]}


LIMITS: Final = Section(
    (
        Key("training", _BATCHES, "How many batches of each pass over the training data are trained on."),
        Key("validation", _BATCHES, "How many batches of the validation data each validation takes."),
    )
)
"""The keys of `limit_batches`; a number stands for both."""


@final
@dataclass(frozen=True)
class Limits(Kind):
    """`{training: n, validation: n}`, or one number for both."""

    @override
    def check(self, node: Node, path: str, report: Report) -> Any:
        if isinstance(node.value, int) and not isinstance(node.value, bool):
            count = _BATCHES.read(node, path, report)
            return BAD if count is BAD else dict.fromkeys(LIMITS.names, count)
        if not isinstance(node.value, Mapping) or not node.value:
            return self.refuse(node, path, report)
        values = LIMITS.read(node, path, report)
        return values if len(values) == len(LIMITS.keys) and set(node.value) <= set(values) else BAD

    @override
    def words(self) -> str:
        return "a whole number of at least 1, or {training: n, validation: n}"

    @override
    def json_schema(self) -> dict[str, Any]:
        return {"anyOf": [_BATCHES.json_schema(), {**LIMITS.json_schema(), "minProperties": 1}]}
