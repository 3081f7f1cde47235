"""How many brackets there are, and what each gets; and how they share their places."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import override

from mnist_trials.plugin import Create, Shutdown, Stop
from mnist_trials.testing import SearcherSuite
from tests.plugins.searchers.made import Told, brackets, make


class TestAdaptiveAsha(SearcherSuite):
    plugin = "adaptive_asha"

    @override
    def config(self) -> Mapping[str, Any]:
        settings = {"max_trials": 17, "max_concurrent_trials": 4, "mode": "conservative", "divisor": 2}
        return {**super().config(), **settings}


class TestAdaptiveAshaWithPromotions(TestAdaptiveAsha):
    @override
    def config(self) -> Mapping[str, Any]:
        return {**super().config(), "stop_once": False}


def depths(**config: Any) -> list[int]:
    return [len(bracket.rungs) for bracket in brackets("adaptive_asha", **config)]


def trials(**config: Any) -> list[int]:
    return [bracket.trials[0] for bracket in brackets("adaptive_asha", **config)]


def places(**config: Any) -> list[int]:
    return [bracket.max_concurrent_trials for bracket in brackets("adaptive_asha", **config)]


@pytest.mark.parametrize(
    ("mode", "max_rungs", "expected"),
    [
        ("aggressive", 5, [5]),
        ("standard", 5, [5, 4, 3]),
        ("conservative", 5, [5, 4, 3, 2, 1]),
        ("aggressive", 4, [4]),
        ("standard", 4, [4, 3, 2]),
        ("conservative", 4, [4, 3, 2, 1]),
        ("standard", 2, [2, 1]),
        ("standard", 1, [1]),
    ],
)
def test_the_mode_says_how_many_rungs_the_brackets_have(mode: str, max_rungs: int, expected: list[int]) -> None:
    assert depths(mode=mode, max_rungs=max_rungs, max_length=4**9, max_trials=4**9, divisor=4) == expected


@pytest.mark.parametrize(
    ("max_length", "max_trials", "divisor", "deepest"),
    [
        (1000, 10**6, 10, 4),  # the logarithm as a float says 3
        (999, 10**6, 10, 3),
        (10**6, 1000, 10, 4),
        (243, 10**6, 3, 6),  # and 5 here
        (125, 10**6, 5, 4),
        (10**15, 10**15, 10, 16),
        (1, 10, 4, 1),
        (10, 1, 4, 1),
        (4, 10**6, 1.1, 15),
    ],
)
def test_a_bracket_is_as_deep_as_the_length_and_the_trials_allow(
    max_length: int, max_trials: int, divisor: float, deepest: int
) -> None:
    (bracket,) = (
        make(
            "adaptive_asha",
            max_length={"batches": max_length},
            max_trials=max_trials,
            divisor=divisor,
            max_rungs=50,
            mode="aggressive",
        ).brackets()
        or ()
    )

    assert len(set(bracket.rungs)) == len(bracket.rungs) <= deepest
    if divisor != 1.1:  # there equal rungs merge
        assert len(bracket.rungs) == deepest


@given(base=st.integers(2, 50), exponent=st.integers(0, 12), below=st.booleans())
def test_powers_of_the_divisor_are_told_from_the_numbers_below_them(base: int, exponent: int, below: bool) -> None:
    length = base**exponent - (1 if below and exponent else 0)
    expected = exponent + (0 if below and exponent else 1)

    config = {"max_length": length, "max_trials": 10**30, "divisor": base, "max_rungs": 99, "mode": "aggressive"}
    assert depths(**config) == [expected]


def test_every_bracket_has_rungs_of_its_own() -> None:
    found = brackets("adaptive_asha", max_length=256, max_trials=64, divisor=4)

    assert [bracket.rungs for bracket in found] == [(4, 16, 64, 256), (16, 64, 256), (64, 256)]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        # Weights 64 / 4, 16 / 3, 4 / 2 of 70 / 3: 43.9, 14.6 and 5.5 of 64; the 2 left over go to the first.
        ({"max_length": 256, "max_trials": 64, "divisor": 4}, [45, 14, 5]),
        ({"max_length": 256, "max_trials": 64, "divisor": 4, "mode": "aggressive"}, [64]),
        ({"max_length": 100, "max_trials": 1, "divisor": 4}, [1]),
        ({"max_length": 100, "max_trials": 7, "divisor": 4, "bracket_rungs": [1, 3]}, [6, 1]),
        ({"max_length": 100, "max_trials": 10, "divisor": 4, "bracket_rungs": [2, 2]}, [5, 5]),
        # Each would get at least 1: the least aggressive are left out.
        ({"max_length": 100, "max_trials": 2, "divisor": 4, "bracket_rungs": [3, 2, 1]}, [1, 1]),
        ({"max_length": 100, "max_trials": 1, "divisor": 4, "bracket_rungs": [3, 2, 1]}, [1]),
    ],
)
def test_trials_are_shared_out_by_what_they_cost(config: dict[str, Any], expected: list[int]) -> None:
    assert trials(**config) == expected


@given(
    max_trials=st.integers(1, 500),
    max_length=st.integers(1, 5000),
    divisor=st.sampled_from((1.1, 1.5, 2, 3, 4, 10)),
    mode=st.sampled_from(("aggressive", "standard", "conservative")),
    bracket_rungs=st.lists(st.integers(1, 6), max_size=6),
    max_concurrent=st.integers(0, 50),
)
def test_a_plan_adds_up(
    max_trials: int, max_length: int, divisor: float, mode: str, bracket_rungs: list[int], max_concurrent: int
) -> None:
    found = brackets(
        "adaptive_asha",
        max_trials=max_trials,
        max_length=max_length,
        divisor=divisor,
        mode=mode,
        bracket_rungs=bracket_rungs,
        max_concurrent_trials=max_concurrent,
    )

    assert sum(bracket.trials[0] for bracket in found) == max_trials
    for bracket in found:
        assert bracket.rungs[-1] == max_length
        assert bracket.rungs[0] >= 1
        assert list(bracket.rungs) == sorted(set(bracket.rungs))
        assert len(bracket.trials) == len(bracket.rungs)
        assert list(bracket.trials) == sorted(bracket.trials, reverse=True)
        assert bracket.trials[-1] >= 1
    if max_concurrent:
        shares = [bracket.max_concurrent_trials for bracket in found]
        assert sum(shares) == max_concurrent
        assert sorted(shares, reverse=True) == shares
        assert max(shares) - min(shares) <= 1


def test_bracket_rungs_take_the_place_of_the_mode() -> None:
    config = {"max_length": 256, "max_trials": 64, "divisor": 4, "max_rungs": 1, "mode": "aggressive"}

    assert depths(bracket_rungs=[1, 3, 2], **config) == [3, 2, 1]


def test_places_are_split_evenly_and_the_first_take_what_is_left_over() -> None:
    config = {"max_length": 256, "max_trials": 64, "divisor": 4}

    assert places(**config) == [6, 5, 5]  # of 16
    assert places(max_concurrent_trials=17, **config) == [6, 6, 5]
    assert places(max_concurrent_trials=2, **config) == [1, 1, 0]


def test_without_a_bound_each_bracket_runs_as_many_as_the_last_one_has_or_the_divisor() -> None:
    config = {"max_length": 256, "max_concurrent_trials": 0}

    assert places(max_trials=64, divisor=4, **config) == [5, 5, 5]  # the last has 5 trials
    assert places(max_trials=12, divisor=5.7, bracket_rungs=[3, 1], **config) == [5, 5]  # and here 1


def adaptive(**config: Any) -> Told:
    """Brackets of two rungs (5 and 10) and of one."""
    common: dict[str, Any] = {"divisor": 2, "max_length": 10, "bracket_rungs": [2, 1]}
    return Told(make("adaptive_asha", **{**common, **config}))


def of_brackets(told: Told, count: int) -> list[int]:
    return [told.searcher.bracket_of(trial_id) for trial_id in range(1, count + 1)]


def test_brackets_begin_one_after_the_other_with_their_share() -> None:
    told = adaptive(max_trials=8, max_concurrent_trials=5)

    assert told.first == [Create()] * 5
    assert of_brackets(told, 5) == [0, 0, 0, 1, 1]
    assert told.searcher.validate_at(1) == (5, 10)
    assert told.searcher.validate_at(4) == (10,)


def test_a_share_that_a_bracket_cannot_fill_goes_to_the_first_that_can() -> None:
    told = adaptive(max_trials=5, max_concurrent_trials=4, bracket_rungs=[2, 1])  # 3 and 2 trials
    assert of_brackets(told, len(told.first)) == [0, 0, 1, 1]

    told = adaptive(max_trials=4, max_concurrent_trials=4, max_length=16, bracket_rungs=[5, 1])  # 3 and 1 trials
    assert of_brackets(told, len(told.first)) == [0, 0, 1, 0]


def test_a_place_goes_to_its_own_bracket_as_long_as_that_makes_trials() -> None:
    told = adaptive(max_trials=6, max_concurrent_trials=2)  # 3 and 3 trials, one place each
    assert of_brackets(told, 2) == [0, 1]

    assert told.exit(2) == [Create()]
    assert told.exit(3) == [Create()]
    assert of_brackets(told, 4) == [0, 1, 1, 1]
    assert told.exit(4) == [Create()]  # the second bracket has made all its trials
    assert of_brackets(told, 5)[4] == 0


def test_a_bracket_without_a_place_gets_one_when_another_is_done() -> None:
    told = adaptive(max_trials=4, max_concurrent_trials=1)  # 2 and 2 trials
    assert [told.exit(trial_id) for trial_id in (1, 2, 3)] == [[Create()]] * 3

    assert of_brackets(told, 4) == [0, 0, 1, 1]
    assert told.exit(4) == [Shutdown()]


def test_trials_are_judged_within_their_bracket() -> None:
    told = adaptive(max_trials=8, max_concurrent_trials=8, max_length=16, bracket_rungs=[2, 2], divisor=4)
    assert of_brackets(told, 8) == [0, 0, 0, 0, 1, 1, 1, 1]
    told.report(1, 4, 0.1)

    assert told.report(5, 4, 0.9) == []
    (stop,) = told.report(6, 4, 0.95)
    assert isinstance(stop, Stop)
    assert not isinstance(stop.why, str | None)
    assert (stop.why.bracket, stop.why.rank, stop.why.of) == (1, 2, 2)
