"""Parts of a trial's step as programs that other machines can compile: StableHLO, and a file to load it from."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

PARTS: Final = (
    "init",
    "forward_train",
    "forward_eval",
    "loss",
    "gradients",
    "optimizer",
    "train_step",
    "evaluation",
)
"""The names of the parts that are lowered, in this order."""

_OPERATION: Final = re.compile(r"\b((?:stablehlo|chlo|vhlo|sdy)\.(?!return\b)\w+)")


@final
@dataclass(frozen=True, slots=True)
class ArrayKind:
    """Shape and type of an array."""

    shape: tuple[int, ...]
    dtype: str  # such as float32


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Lowered:
    """A pure function of named arrays that gives named arrays; state that a step changes is among both."""

    name: str  # one of PARTS
    text: str  # StableHLO
    inputs: Mapping[str, ArrayKind]  # in the order in which it takes them
    outputs: Mapping[str, ArrayKind]
    platforms: Sequence[str]  # that it was lowered for; none: it is the same for all
    artefact: bytes
    suffix: str  # of the file of `artefact`
    loads: str  # how it is loaded again, in a line of Python

    @property
    def operations(self) -> dict[str, int]:
        """How often each operation stands in the text, by name."""
        return dict(sorted(Counter(_OPERATION.findall(self.text)).items()))


@final
@dataclass(frozen=True, slots=True)
class Refused:
    """A part that could not be lowered."""

    name: str
    reason: str
