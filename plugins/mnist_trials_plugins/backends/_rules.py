"""Which parameters a trial's sharding rules name, and what is wrong with rules, whichever framework the model is of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from typing import Final, TypeAlias

from mnist_trials.errors import TrialError
from mnist_trials.plugin import Rules

TENSOR: Final = "tensor"
Dims: TypeAlias = tuple[str | None, ...]
"""For each dimension of a parameter whether it is split (TENSOR) or not (None)."""


def dims_by_parameter(rules: Rules, names: Sequence[str], problems: list[str]) -> dict[str, Dims]:
    """What the rules say of those of `names` that they match. What is wrong is added to `problems`."""
    if not rules:
        problems.append(
            "there are none, so every slot of the dimension would compute the same. Return rules from "
            "sharding_rules(), or use the slots for data"
        )
    dims: dict[str, Dims] = {}
    origin: dict[str, str] = {}
    for pattern, wanted in rules.items():
        for name in _matches(pattern, names, problems):
            if name in dims and dims[name] != tuple(wanted):
                problems.append(f"{origin[name]!r} and {pattern!r} both match {name!r} and differ")
            dims[name], origin[name] = tuple(wanted), pattern
    return dims


def _matches(pattern: str, names: Sequence[str], problems: list[str]) -> list[str]:
    try:
        matches = [name for name in names if re.fullmatch(pattern, name)]
    except re.error as error:
        problems.append(f"{pattern!r} is no regular expression: {error}")
        return []
    if not matches:
        near = get_close_matches(pattern.replace("\\", ""), names, n=3, cutoff=0.4) or names[:5]
        there = f"there are {', '.join(near)}{', ...' * (len(near) < len(names))}"
        problems.append(f"{pattern!r} matches no parameter ({there})")
    return matches


def shape_problems(name: str, shape: Sequence[int], wanted: Dims, ranks: int) -> Iterator[str]:
    """Why the parameter `name` of that shape cannot be split as `wanted` over `ranks` ranks."""
    if unknown := [dim for dim in wanted if dim not in (None, TENSOR)]:
        yield f"{name!r} cannot be split over {unknown[0]!r}: only {TENSOR!r} and None are known"
    if len(wanted) != len(shape):
        yield f"{name!r} has {len(shape)} dimensions {tuple(shape)}, its rule {len(wanted)}"
        return
    if wanted.count(TENSOR) > 1:
        yield f"{name!r} can be split in one dimension only, not as {wanted}"
    for size, dim in zip(shape, wanted, strict=True):
        if dim == TENSOR and size % ranks:
            yield f"{name!r} {tuple(shape)} cannot be split evenly: {size} does not divide by {ranks}"


def refuse(problems: Iterable[str], ranks: int) -> None:
    """Tell of each of the problems once.

    Raises:
        TrialError: there are some.
    """
    if told := "; ".join(dict.fromkeys(problems)):
        raise TrialError(f"mesh.tensor is {ranks}, and the sharding rules do not fit: {told}.")
