"""`asha`: the asynchronous successive halving algorithm, of one bracket.

Every trial begins. At each rung, a length of training, only the best one in `divisor` go on to the next. The full
length is the top rung, and rung i of n is floor(max / divisor^(n-1-i)) units, at least 1; equal rungs are one. A trial
is judged as soon as it comes to a rung, by those that came before it, so that no slot waits for another. A metric that
is missing or not finite is the worst of all, and of equal ones the first to come ranks first.

`stop_once: true`: a trial that is among the best max(floor(n / divisor), 1) of the n at the rung, itself included, goes
on. Else it ends and a new one takes its place, until `max_trials` were made.

`stop_once: false`, as in the paper: a trial rests at each rung. Its place goes to the best trial, from the highest rung
down, that is among the best floor(n / divisor) of its rung and was not promoted yet; if there is none, to a new one.
When no trial runs and none is left to make, at least the best of each rung goes on, so that one comes to the top.

A trial that failed for good counts as the worst of the rung it was on its way to, and a new one takes its place. One
whose hyperparameters were invalid is taken out of every rung and made up for, at most `max_trials` times.

Li, Jamieson, Rostamizadeh, Gonina, Ben-tzur, Hardt, Recht, Talwalkar: A System for Massively Parallel Hyperparameter
Tuning. MLSys 2020, https://arxiv.org/abs/1810.05934.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mnist_trials.config.rungs import exact
from mnist_trials.plugin import PluginRecord, Searcher, hookimpl
from mnist_trials_plugins.searchers._bracket import Plan
from mnist_trials_plugins.searchers._halving import full_length, rung_lengths
from mnist_trials_plugins.searchers._halving_searcher import HalvingSearcher
from mnist_trials_plugins.searchers._promotion import PromotionBracket
from mnist_trials_plugins.searchers._stopping import StoppingBracket


def _make(config: Mapping[str, Any], hyperparameters: Mapping[str, Any]) -> Searcher:
    length = full_length(config)
    assert length is not None, "the config is held to have a length"
    divisor, max_trials = exact(config.get("divisor", 4)), config["max_trials"]
    plan = Plan(
        index=0,
        rungs=rung_lengths(length, divisor, config["num_rungs"]),
        trials=max_trials,
        places=config.get("max_concurrent_trials", 16) or max_trials,
        divisor=divisor,
        smaller_is_better=config.get("smaller_is_better", True),
    )
    return HalvingSearcher([plan], StoppingBracket if config.get("stop_once", True) else PromotionBracket)


@hookimpl
def mnist_trials_searchers() -> Iterable[PluginRecord[Searcher]]:
    """The searcher `asha`."""
    return [PluginRecord("asha", "stops or pauses the worse trials at each rung", _make, aliases=("async_halving",))]
