"""asha and adaptive_asha decide, reasons included, as the plainest writing of their rules does, whatever happens."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnist_trials.plugin import Searcher, get_plugins
from tests.plugins.searchers.histories import History
from tests.plugins.searchers.reference import Reference

COMMON = {
    "max_trials": st.integers(1, 30),
    "max_concurrent_trials": st.integers(0, 12),
    "divisor": st.sampled_from((1.5, 2, 2.5, 3, 4)),
    "max_length": st.integers(1, 100),
    "smaller_is_better": st.booleans(),
}
ASHA = st.fixed_dictionaries({"name": st.just("asha"), "num_rungs": st.integers(1, 6), **COMMON})
ADAPTIVE = st.fixed_dictionaries(
    {
        "name": st.just("adaptive_asha"),
        "mode": st.sampled_from(("aggressive", "standard", "conservative")),
        "max_rungs": st.integers(1, 6),
        "bracket_rungs": st.just([]) | st.lists(st.integers(1, 4), min_size=1, max_size=5),
        **COMMON,
    }
)


def play(config: dict[str, Any], seed: int, trouble: float) -> History:
    def make() -> Searcher:
        searcher: Searcher = get_plugins().find("searcher", config["name"]).factory({"metric": "loss", **config}, {})
        return searcher

    brackets = make().brackets()
    assert brackets is not None
    rules = {name: config[name] for name in ("divisor", "smaller_is_better", "stop_once")}
    history = History(make, Reference(brackets, **rules), Random(seed), trouble)
    history.play()
    return history


@pytest.mark.parametrize("stop_once", [True, False])
@settings(max_examples=600, deadline=None)
@given(config=ASHA | ADAPTIVE, seed=st.integers(0, 10**6), trouble=st.sampled_from((0.0, 0.03, 0.1, 0.3)))
def test_every_decision_is_that_of_the_plainest_writing_of_the_rules(
    stop_once: bool, config: dict[str, Any], seed: int, trouble: float
) -> None:
    history = play({**config, "stop_once": stop_once}, seed, trouble)

    if trouble == 0.0:
        assert len(history.trials) == config["max_trials"]


@pytest.mark.parametrize(
    "max_trials", [1000, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])]
)
@pytest.mark.parametrize("stop_once", [True, False])
@pytest.mark.parametrize("name", ["asha", "adaptive_asha"])
def test_large_searches_decide_so_too(name: str, stop_once: bool, max_trials: int) -> None:
    config = {"name": name, "max_trials": max_trials, "max_length": 256, "num_rungs": 5, "divisor": 3}

    history = play({**config, "smaller_is_better": False, "stop_once": stop_once}, 1, 0.02)

    assert len(history.trials) - history.invalid == max_trials
