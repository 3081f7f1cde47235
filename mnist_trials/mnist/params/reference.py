"""What is known of the parameters of one reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, final

from mnist_trials.mnist.params.draft import Draft, Rule


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """One reference's parameters, as a table."""

    name: str
    example: str  # what its files look like, in a few words
    sections: tuple[str, ...]  # maps at the top, whose keys are `section.key` in the table
    start: Mapping[str, Any]  # what every config of it has
    keys: Mapping[str, Rule]
    finish: Callable[[Draft], None]  # what several keys mean together
