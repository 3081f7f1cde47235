"""`single`: one trial, trained to its full length. Hyperparameters given as ranges are sampled once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, final

from typing_extensions import override

from mnist_trials.plugin import Action, Bracket, Create, PluginRecord, Searcher, SearcherContext, Shutdown, hookimpl
from mnist_trials_plugins.searchers._halving import full_length


@final
class SingleSearcher(Searcher):
    """Creates one trial and shuts down when it has ended, however that was.

    A trial whose hyperparameters are invalid is not replaced: with constants its successor would be the same again.
    """

    def __init__(self, length: int | None) -> None:
        self._length = length  # in the searcher's unit; None: the entrypoint decides
        self._units = 0
        self._ended = False

    @override
    def initial_trials(self, ctx: SearcherContext) -> Sequence[Action]:
        return [Create()]

    @override
    def validation_completed(
        self, ctx: SearcherContext, trial_id: int, units: int, metric: float | None
    ) -> Sequence[Action]:
        self._units = units
        return []

    @override
    def trial_exited(self, ctx: SearcherContext, trial_id: int) -> Sequence[Action]:
        self._ended = True
        return [Shutdown()]

    @override
    def trial_failed(self, ctx: SearcherContext, trial_id: int, reason: str) -> Sequence[Action]:
        self._ended = True
        return [Shutdown()]

    @override
    def brackets(self) -> Sequence[Bracket] | None:
        if self._length is None:
            return None
        return [Bracket(rungs=(self._length,), trials=(1,), max_concurrent_trials=1)]

    @override
    def progress(self) -> float:
        if self._ended:
            return 1.0
        return min(self._units / self._length, 1.0) if self._length else 0.0

    @override
    def snapshot(self) -> dict[str, Any]:
        return {"units": self._units, "ended": self._ended}

    @override
    def restore(self, snapshot: Mapping[str, Any]) -> None:
        self._units = snapshot["units"]
        self._ended = snapshot["ended"]


def _make(config: Mapping[str, Any], hyperparameters: Mapping[str, Any]) -> Searcher:
    return SingleSearcher(full_length(config))


@hookimpl
def mnist_trials_searchers() -> Iterable[PluginRecord[Searcher]]:
    """The searcher `single`."""
    return [PluginRecord("single", "one trial, trained to its full length", _make)]
