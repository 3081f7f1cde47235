"""Options of a named learning rate schedule: what each may be, and what is said where one is no good."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, final

from mnist_trials.errors import TrialError

_REQUIRED: Final = object()


@final
@dataclass(frozen=True, slots=True)
class Option:
    """What an option may be; one without a default must be given."""

    fits: Callable[[Any], bool]
    words: str
    default: Any = _REQUIRED

    @property
    def optional(self) -> bool:
        """Whether it has a default."""
        return self.default is not _REQUIRED

    def by_default(self, value: Any) -> Option:
        """The same, with a default."""
        return replace(self, default=value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


COUNT: Final = Option(_is_count, "a whole number of at least 1")
NUMBER: Final = Option(_is_number, "a number of at least 0")
FLAG: Final = Option(lambda value: isinstance(value, bool), "true or false")
COUNTS: Final = Option(
    lambda value: isinstance(value, list | tuple) and all(map(_is_count, value)), "a list of whole numbers"
)
NUMBERS: Final = Option(
    lambda value: isinstance(value, list | tuple) and all(map(_is_number, value)), "a list of numbers"
)


def near(name: str, names: Iterable[str]) -> str:
    """A question after the nearest of `names`, to follow a sentence; empty where none is near."""
    found = difflib.get_close_matches(name, list(names), n=1)
    return f" Did you mean '{found[0]}'?" if found else ""


def read_options(
    name: str, given: Mapping[str, Any], known: Mapping[str, Option], also: tuple[str, ...]
) -> dict[str, Any]:
    """The options of the schedule `name`, defaults filled in. `also` is what may stand beside them.

    Raises:
        TrialError: one is unknown, missing, or has a value that it cannot have.
    """
    for option in given:
        if option not in known:
            raise TrialError(
                f"The learning rate schedule '{name}' has no option '{option}'.{near(str(option), (*known, *also))} "
                f"It takes: {', '.join((*known, *also))}."
            )
    values = {}
    for option, kind in known.items():
        if option not in given and not kind.optional:
            raise TrialError(f"The learning rate schedule '{name}' needs the option '{option}': {kind.words}.")
        value = given.get(option, kind.default)
        if not kind.fits(value):
            raise TrialError(f"'{option}' of the learning rate schedule '{name}' is {kind.words}, not {value!r}.")
        values[option] = value
    return values
