"""A rung: the trials that came to it, best first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, final

from sortedcontainers import SortedList

Key = tuple[float, int, int]
"""Sorts trials from best to worst: the metric (smaller is better), the order of arrival, the trial's id."""


@final
class Rung:
    """Trials by metric. Of equal ones the first to come ranks first. Adding and ranking take O(log n)."""

    def __init__(self, smaller_is_better: bool) -> None:
        self._sign = 1.0 if smaller_is_better else -1.0
        self._arrived = 0
        self._keys: dict[int, Key] = {}  # by trial, in the order of arrival
        self._sorted: SortedList[Key] = SortedList()

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, trial_id: int) -> bool:
        return trial_id in self._keys

    def add(self, trial_id: int, metric: float | None) -> None:
        """Enter a trial; `metric` None is the worst of all."""
        key = (math.inf if metric is None else self._sign * metric, self._arrived, trial_id)
        self._arrived += 1
        self._keys[trial_id] = key
        self._sorted.add(key)

    def remove(self, trial_id: int) -> None:
        """Take a trial out as if it had never come; no effect if it has not."""
        key = self._keys.pop(trial_id, None)
        if key is not None:
            self._sorted.remove(key)

    def key(self, trial_id: int) -> Key:
        """The key of a trial that came."""
        return self._keys[trial_id]

    def rank(self, trial_id: int) -> int:
        """The rank of a trial that came; 1 is the best."""
        return int(self._sorted.bisect_left(self._keys[trial_id])) + 1

    def metric(self, rank: int) -> float | None:
        """The metric of the trial of that rank; None where it is not finite, and for rank 0."""
        if rank == 0:
            return None
        value: float = self._sorted[rank - 1][0]
        return None if value == math.inf else self._sign * value

    def snapshot(self) -> dict[str, Any]:
        """As strict JSON, in the order of arrival."""
        metrics = [None if key[0] == math.inf else self._sign * key[0] for key in self._keys.values()]
        return {"trials": list(self._keys), "metrics": metrics}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Go back to what `snapshot` returned."""
        for order, (trial_id, metric) in enumerate(zip(snapshot["trials"], snapshot["metrics"], strict=True)):
            self._keys[trial_id] = (math.inf if metric is None else self._sign * metric, order, trial_id)
        self._arrived = len(self._keys)
        self._sorted.update(self._keys.values())
