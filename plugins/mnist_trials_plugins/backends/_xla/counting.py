"""What torch_xla has compiled, from its own counters."""

from __future__ import annotations

from typing import final

from mnist_trials_plugins.backends._xla.library import compiled


@final
class Compilations:
    """Counts from the moment that it is made."""

    def __init__(self) -> None:
        self._before = compiled()

    @property
    def count(self) -> int:
        """Programs compiled."""
        return compiled()[0] - self._before[0]

    @property
    def seconds(self) -> float:
        """How long that took."""
        return compiled()[1] - self._before[1]
