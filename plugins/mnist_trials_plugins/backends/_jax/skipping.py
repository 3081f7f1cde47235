"""Batches that are left out because their loss is not finite (`on_nan: skip`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import jax
import numpy as np


@final
class Skipped:
    """Finds them in the losses of a portion, and says so: the first time, and each time that they have doubled."""

    def __init__(self, notice: Callable[[str], None]) -> None:
        self._notice = notice
        self._count = 0
        self._first = 0
        self._told = 0

    def find(self, losses: Any, count: int, first: int) -> list[bool]:
        """Which of the first `count` batches, the first of them batch `first`, were left out. Waits for them."""
        bad = ~np.isfinite(jax.device_get(losses)[:count])
        if bad.any():
            self._first = self._first if self._count else first + int(bad.argmax())
            self._count += int(bad.sum())
        if self._count >= max(1, 2 * self._told):
            self._told = self._count
            self._notice(
                f"{self._count} batches so far were left out because their loss was not finite, the first with "
                f"batch_idx {self._first} (counted from 0)."
            )
        return [bool(one) for one in bad]
