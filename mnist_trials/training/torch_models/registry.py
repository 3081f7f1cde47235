"""Objects that a config may name: a lookup with a helpful error, in place of evaluating text."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar, final

from mnist_trials.errors import TrialError

T = TypeVar("T")


@final
class Registry(Generic[T]):
    """Named objects of one kind. Names are compared without regard to case."""

    def __init__(self, kind: str, entries: Mapping[str, T]) -> None:
        """`kind` is how a person calls one of them: "optimizer"."""
        self._kind = kind
        self._entries = {name.lower(): entry for name, entry in entries.items()}

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._entries))

    def __getitem__(self, name: object) -> T:
        """The object called `name`.

        Raises:
            TrialError: there is none; the text names the nearest and all that are known.
        """
        key = name.lower() if isinstance(name, str) else None
        if key in self._entries:
            return self._entries[key]
        near = difflib.get_close_matches(str(name).lower(), self._entries, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise TrialError(f"No {self._kind} is named {name!r}.{hint} Known: {', '.join(self)}.")
