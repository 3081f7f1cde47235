"""Our searchers, as plugins, without anything around them."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Any

from mnist_trials.plugin import Action, Create, Pause, Resume, Searcher, SearcherContext, Stop, get_plugins
from searches.clock import Method
from searches.curves import DIVISOR, FULL, RUNGS

CONTEXT = SearcherContext(experiment_seed=0, sample=lambda index: {})


def settings(name: str, stop_once: bool, trials: int, length: int, rungs: int, slots: int) -> dict[str, Any]:
    """The `searcher` section of a config, but for what has a default."""
    common = {
        "name": name,
        "metric": "loss",
        "max_trials": trials,
        "max_concurrent_trials": slots,
        "max_length": {"batches": length},
        "divisor": DIVISOR,
        "stop_once": stop_once,
    }
    return common if name == "adaptive_asha" else {**common, "num_rungs": rungs}


def make(section: dict[str, Any]) -> Searcher:
    """The searcher of such a section, all keys given."""
    defaults = {"smaller_is_better": True, "mode": "standard", "max_rungs": 5, "bracket_rungs": []}
    searcher: Searcher = get_plugins().find("searcher", section["name"]).factory({**defaults, **section}, {})
    return searcher


class Ours(Method):
    """A searcher plugin under the clock."""

    def __init__(self, name: str, stop_once: bool, trials: int, slots: int) -> None:
        self._searcher = make(settings(name, stop_once, trials, FULL, len(RUNGS), slots))
        self._made = 0
        self._waiting: list[int] = []
        self._until: dict[int, int] = {}
        self._apply(self._searcher.initial_trials(CONTEXT))

    def next(self) -> int | None:
        return heappop(self._waiting) if self._waiting else None

    def report(self, trial: int, units: int, loss: float) -> bool:
        gone = self._apply(self._searcher.validation_completed(CONTEXT, trial, units, loss), trial)
        if gone == "stopped" or (gone is None and units >= self._until[trial]):
            self._apply(self._searcher.trial_exited(CONTEXT, trial))
        return gone is None

    def _apply(self, actions: Sequence[Action], reporting: int | None = None) -> str | None:
        gone: str | None = None
        for action in actions:
            match action:
                case Create(until=until):
                    self._made += 1
                    self._until[self._made] = until or FULL
                    heappush(self._waiting, self._made)
                case Stop():
                    assert action.trial_id == reporting
                    gone = "stopped"
                case Pause():
                    assert action.trial_id == reporting
                    gone = "paused"
                case Resume(trial_id, until):
                    self._until[trial_id] = until
                    if trial_id == reporting:
                        gone = None  # without leaving its slot
                    else:
                        heappush(self._waiting, trial_id)
        return gone
