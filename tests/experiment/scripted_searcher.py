"""A searcher for tests that does what its config says; registered by the name `scripted`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from typing_extensions import override

from mnist_trials.plugin import (
    Action,
    Create,
    Pause,
    PluginRecord,
    Searcher,
    SearcherContext,
    Shutdown,
    Stop,
    get_plugins,
    hookimpl,
)


class Scripted(Searcher):
    """`trials` are made at the start; `stop` maps a trial to those it stops with its first validation; `instead` are
    made when a trial fails; `wrong` is something a searcher must not do.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        self.state: dict[str, Any] = {"seen": [], "left": 0}

    @override
    def initial_trials(self, ctx: SearcherContext) -> Sequence[Action]:
        count = self.config.get("trials", 2)
        self.state["left"] = count
        if self.config.get("wrong") == "none":
            return [Shutdown()]
        return [Create() for _ in range(count)]

    @override
    def validation_completed(
        self, ctx: SearcherContext, trial_id: int, units: int, metric: float | None
    ) -> Sequence[Action]:
        self.state["seen"].append([trial_id, units, metric])
        match self.config.get("wrong"):
            case "raise":
                raise RuntimeError("not my day")
            case "pause":
                return [Pause(trial_id)]
            case "stranger":
                return [Stop(99)]
            case "rubbish":
                return ["Stop"]  # type: ignore[list-item]
            case "hparams":
                return [Create({"lr": float("inf")})]
            case "nan":
                self.state["nan"] = float("nan")
        first = len([seen for seen in self.state["seen"] if seen[0] == trial_id]) == 1
        return [Stop(other) for other in self.config.get("stop", {}).get(str(trial_id), [])] if first else []

    @override
    def trial_exited(self, ctx: SearcherContext, trial_id: int) -> Sequence[Action]:
        self.state["left"] -= 1
        return [] if self.state["left"] else [Shutdown()]

    @override
    def trial_failed(self, ctx: SearcherContext, trial_id: int, reason: str) -> Sequence[Action]:
        if trial_id <= self.config.get("replace", 0):
            return [Create({"replaces": trial_id, "reason": reason})]
        return self.trial_exited(ctx, trial_id)

    @override
    def progress(self) -> float:
        return 0.5

    @override
    def snapshot(self) -> dict[str, Any]:
        return self.state

    @override
    def restore(self, snapshot: Mapping[str, Any]) -> None:
        self.state = dict(snapshot)


@hookimpl
def mnist_trials_searchers() -> Iterable[PluginRecord[Searcher]]:
    return [PluginRecord("scripted", "for tests", lambda config, hyperparameters: Scripted(config))]


def install() -> None:
    plugins = get_plugins()
    if "scripted" not in plugins.searchers():
        plugins.register(sys.modules[__name__], "scripted")
