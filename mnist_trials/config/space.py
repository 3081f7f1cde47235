"""Hyperparameters as points: how many there are, and which is which.

Ranges of whole numbers and of categories are finite. The points of a finite space are numbered from 0, and `permuted`
goes through the numbers in an order that looks random and needs no memory, however many there are.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from mnist_trials.config.hyperparameters import leaf_type, ranges
from mnist_trials.config.sections import child

_ROUNDS: Final = 16  # fewer favour some orders of a handful of points


def points(hyperparameters: Mapping[str, Any]) -> int | None:
    """How many different hyperparameters the resolved section allows; None: it has a range of real numbers.

    Constants alone are one point. A categorical value that is listed twice counts once.
    """
    sizes = []
    for _, leaf in ranges(hyperparameters):
        if leaf["type"] not in ("int", "categorical"):
            return None
        sizes.append(_size(leaf))
    return math.prod(sizes)


def point(hyperparameters: Mapping[str, Any], number: int) -> dict[str, Any]:
    """The values at point `number`, from 0 to `points(hyperparameters)` - 1, of a finite space; by dotted path."""
    values = {}
    for path, leaf in by_path(hyperparameters):
        number, place = divmod(number, _size(leaf))
        values[path] = leaf["minval"] + place if leaf["type"] == "int" else distinct(leaf["vals"])[place]
    return values


def permuted(number: int, size: int, *key: Any) -> int:
    """Where `number`, from 0 to `size` - 1, goes in the permutation of these numbers that `key` (JSON) chooses.

    A Feistel network on as many bits as `size` has, walked until it comes back below `size`: two steps at most on
    average. Black, Rogaway: Ciphers with Arbitrary Finite Domains. CT-RSA 2002.
    """
    bits = (size - 1).bit_length()
    keyed = hashlib.shake_256(json.dumps(key).encode())
    while True:
        number = _feistel(number, bits, keyed)
        if number < size:
            return number


def by_path(hyperparameters: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Every range and its dotted path, sorted by it, the last first: the order in which a number is taken apart."""
    return sorted(ranges(hyperparameters), key=lambda item: item[0], reverse=True)


def distinct(values: Sequence[Any]) -> list[Any]:
    """`values` without those that came before, as JSON tells them apart: 1, 1.0 and true are three."""
    found: dict[str, Any] = {}
    for value in values:
        found.setdefault(json.dumps(value, sort_keys=True), value)
    return list(found.values())


def fill(hyperparameters: Mapping[str, Any], values: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """The resolved section with each range replaced by its value in `values`, which are by dotted path.

    It shares no list or map with either.
    """
    filled: dict[str, Any] = {}
    for name, value in hyperparameters.items():
        here, kind = child(path, name), leaf_type(value)
        if kind is None and isinstance(value, Mapping):
            filled[name] = fill(value, values, here)
        elif kind is None or kind == "const":
            filled[name] = _copy(value if kind is None else value["val"])
        else:
            filled[name] = _copy(values[here])
    return filled


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _copy(item) for name, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list | tuple) else value


def _size(leaf: Mapping[str, Any]) -> int:
    if leaf["type"] == "categorical":
        return len(distinct(leaf["vals"]))
    return int(leaf["maxval"] - leaf["minval"] + 1)


def _feistel(number: int, bits: int, keyed: Any) -> int:
    """Mixes the lower bits into the upper ones and swaps them; of an odd number, the halves trade sizes each time."""
    low_bits = bits // 2
    for turn in range(_ROUNDS):
        high_bits = bits - low_bits
        high, low = number >> low_bits, number & ((1 << low_bits) - 1)
        mixed = keyed.copy()
        mixed.update(b"%d:%d" % (turn, low))
        noise = int.from_bytes(mixed.digest((high_bits + 7) // 8)) & ((1 << high_bits) - 1)
        number = (low << high_bits) | (high ^ noise)
        low_bits = high_bits
    return number
