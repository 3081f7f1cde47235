"""What a decision costs grows with the logarithm of the number of trials: counted in comparisons, not in time."""

from __future__ import annotations

from random import Random
from typing import Any, ClassVar

import pytest
from typing_extensions import override

from tests.plugins.searchers.made import Told, make


class Counted(float):
    """A metric that counts how often it is compared."""

    comparisons: ClassVar[int] = 0

    @override
    def __lt__(self, other: float) -> bool:
        Counted.comparisons += 1
        return super().__lt__(other)

    @override
    def __eq__(self, other: object) -> bool:
        Counted.comparisons += 1
        return super().__eq__(other)

    @override
    def __hash__(self) -> int:
        return super().__hash__()

    @override
    def __rmul__(self, other: float) -> Counted:
        return Counted(super().__rmul__(other))


def most_comparisons(trials: int, **config: Any) -> int:
    """Of the decisions at the first rung, when as many trials have been there."""
    dice = Random(0)
    told = Told(make(max_trials=trials, max_length=256, divisor=4, max_concurrent_trials=0, **config))
    most = 0
    for trial_id in range(1, trials + 1):
        Counted.comparisons = 0
        if trial_id > len(told.first):
            told.first.extend(told.exit(trial_id - len(told.first)))
        told.report(trial_id, 1, Counted(dice.random()))
        if trial_id > trials - 100:
            most = max(most, Counted.comparisons)
    return most


@pytest.mark.parametrize("stop_once", [True, False])
def test_sixteen_times_as_many_trials_cost_half_as_many_comparisons_more_at_most(stop_once: bool) -> None:
    few, many = (most_comparisons(n, name="asha", num_rungs=5, stop_once=stop_once) for n in (500, 8000))

    assert few > 0
    assert many < 1.5 * few
