"""What a plain scalar means: the YAML 1.2 core schema (yaml.org/spec/1.2.2, section 10.3.2)."""

from __future__ import annotations

import math
import re
from typing import Final

from mnist_trials.config.nodes import Scalar

_WORDS: Final[dict[str, Scalar]] = {
    "": None,
    **dict.fromkeys(("~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_BASES: Final = {"0o": (re.compile(r"0o[0-7]+"), 8), "0x": (re.compile(r"0x[0-9a-fA-F]+"), 16)}
_INT: Final = re.compile(r"[-+]?[0-9]+")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE: Final = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")

_LONGEST_INT: Final = 40  # digits; far beyond 64 bits, and short enough to convert at no cost


def resolve(text: str) -> Scalar:
    """The value of the plain scalar `text`.

    Raises:
        ValueError: it is a number that a config cannot hold: not finite, or a whole number beyond 64 bits.
    """
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return _whole(text, 10)
    pattern, base = _BASES.get(text[:2], (None, 0))
    if pattern is not None and pattern.fullmatch(text):
        return _whole(text, base)
    if _NOT_FINITE.fullmatch(text):
        raise ValueError(f"a number must be finite, not {text}.")
    if _FLOAT.fullmatch(text):
        return _real(text)
    return text


def _whole(text: str, base: int) -> int:
    value = int(text, base) if len(text) <= _LONGEST_INT else None
    if value is None or not -(2**63) <= value < 2**63:
        raise ValueError(
            f"the whole number {text[:20]}{'...' * (len(text) > 20)} does not fit in 64 bits; write it with a "
            "point or an exponent, or in quotes."
        )
    return value


def _real(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:40]} is too large.")
    return value
