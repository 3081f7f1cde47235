"""`adaptive_asha`: several brackets of `asha` side by side, which differ in how early they stop trials.

A bracket with many rungs tries many trials and ends most of them early; one with few rungs tries few, and is right
where early metrics mislead. The deepest has R = min(`max_rungs`, floor(log_divisor max) + 1,
floor(log_divisor `max_trials`) + 1) rungs. `mode` aggressive takes R alone, standard floor((R - 1) / 2) + 1 to R,
conservative 1 to R; `bracket_rungs` names them instead. The bracket with most rungs comes first.

A bracket of r rungs gets a share of `max_trials` by the weight divisor^(r-1) / r, so that all cost about the same, as
in Hyperband; with fewer trials than brackets the last brackets are left out. `max_concurrent_trials` is split evenly;
without a bound each bracket runs as many trials as the last one has in all, or the divisor if that is more. A place
that a bracket cannot use any more goes to the first that can. See `asha` for what happens in a bracket.

Li, Jamieson, DeSalvo, Rostamizadeh, Talwalkar: Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization.
JMLR 18 (2018), https://arxiv.org/abs/1603.06560.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any

from mnist_trials.config.rungs import depth, exact
from mnist_trials.plugin import PluginRecord, Searcher, hookimpl
from mnist_trials_plugins.searchers._bracket import Plan
from mnist_trials_plugins.searchers._halving import (
    bracket_depths,
    bracket_places,
    bracket_trials,
    full_length,
    rung_lengths,
)
from mnist_trials_plugins.searchers._halving_searcher import HalvingSearcher
from mnist_trials_plugins.searchers._promotion import PromotionBracket
from mnist_trials_plugins.searchers._stopping import StoppingBracket


def _make(config: Mapping[str, Any], hyperparameters: Mapping[str, Any]) -> Searcher:
    plans = _plans(config)
    return HalvingSearcher(plans, StoppingBracket if config.get("stop_once", True) else PromotionBracket)


def _plans(config: Mapping[str, Any]) -> list[Plan]:
    length = full_length(config)
    assert length is not None, "the config is held to have a length"
    divisor = exact(config.get("divisor", 4))
    depths = _depths(config, length, divisor)
    trials = bracket_trials(depths, config["max_trials"], divisor)
    places = bracket_places(trials, config.get("max_concurrent_trials", 16), divisor)
    return [
        Plan(
            index=index,
            rungs=rung_lengths(length, divisor, depths[index]),
            trials=trials[index],
            places=places[index],
            divisor=divisor,
            smaller_is_better=config.get("smaller_is_better", True),
        )
        for index in range(len(trials))
    ]


def _depths(config: Mapping[str, Any], length: int, divisor: Fraction) -> list[int]:
    if given := config.get("bracket_rungs"):
        return sorted(given, reverse=True)
    deepest = min(config.get("max_rungs", 5), depth(length, divisor), depth(config["max_trials"], divisor))
    return bracket_depths(config.get("mode", "standard"), deepest)


@hookimpl
def mnist_trials_searchers() -> Iterable[PluginRecord[Searcher]]:
    """The searcher `adaptive_asha`."""
    return [PluginRecord("adaptive_asha", "brackets of asha that stop early, late or never, side by side", _make)]
