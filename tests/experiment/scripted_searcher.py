"""A searcher for tests that does what its config says; registered by the name `scripted`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from typing_extensions import override

from mnist_trials.plugin import (
    Action,
    Create,
    Judgement,
    Pause,
    PluginRecord,
    Resume,
    Searcher,
    SearcherContext,
    Shutdown,
    Stop,
    get_plugins,
    hookimpl,
)

ACTIONS = {cls.__name__: cls for cls in (Create, Stop, Pause, Resume, Shutdown)}


class Scripted(Searcher):
    """Makes `trials` trials at the start, and shuts down when all have left. `answers` says what else it does:

    by "" (the start), "3@16" (trial 3 was validated at 16), "exit 3" or "fail 3", a list of actions such as
    ["Resume", {"trial_id": 3, "until": 64}]. `points` are where
    trials are validated. `wrong` is something a searcher must not do. `stop` maps a trial to those that its first
    validation stops; `replace`: the trials up to that number are replaced when they fail.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        self.state: dict[str, Any] = {"seen": [], "left": 0, "padding": "x" * config.get("padding", 0)}

    def answer(self, key: str) -> list[Action]:
        answers = self.config.get("answers", {}).get(key, [])
        actions: list[Action] = [ACTIONS[name](**values) for name, values in answers]
        self.state["left"] += sum(isinstance(action, Create) for action in actions)
        return actions

    @override
    def initial_trials(self, ctx: SearcherContext) -> Sequence[Action]:
        count = self.config.get("trials", 0 if "answers" in self.config else 2)
        self.state["left"] = count
        if self.config.get("wrong") == "start":
            raise RuntimeError("no idea")
        if self.config.get("wrong") == "none":
            return [Shutdown()]
        return [*(Create() for _ in range(count)), *self.answer("")]

    @override
    def validation_completed(
        self, ctx: SearcherContext, trial_id: int, units: int, metric: float | None
    ) -> Sequence[Action]:
        self.state["seen"].append([trial_id, units, metric])
        wrong: Sequence[Action] | None = self.wrong(trial_id, units) if "wrong" in self.config else None
        if wrong is not None:
            return wrong
        first = len([seen for seen in self.state["seen"] if seen[0] == trial_id]) == 1
        stopped = self.config.get("stop", {}).get(str(trial_id), []) if first else []
        return [*(Stop(other) for other in stopped), *self.answer(f"{trial_id}@{units}")]

    def wrong(self, trial_id: int, units: int) -> Any:
        """What a searcher must not answer; None where it does something else that it must not do."""
        stood = Judgement(bracket=0, rung=0, units=units, rank=1, of=1, kept=1, threshold=None)
        match wrong := self.config["wrong"]:
            case "raise":
                raise RuntimeError("not my day")
            case "exit":
                sys.exit("enough")
            case "nan":
                self.state["nan"] = float("nan")
            case "progress" | "shape" | "progress raises":
                self.state["wrong"] = wrong
        return {
            "rubbish": ["Stop"],
            "nothing": 0,
            "hparams": [Create({"lr": float("inf")})],
            "threshold": [Stop(trial_id, replace(stood, threshold=float("nan")))],
            "words": [Stop(trial_id, replace(stood, threshold="0.5"))],  # type: ignore[arg-type]
            "late": (Stop(other // 0) for other in [trial_id]),
            "why": [Shutdown(stood)],  # type: ignore[arg-type]
        }.get(wrong)

    @override
    def trial_exited(self, ctx: SearcherContext, trial_id: int) -> Sequence[Action]:
        return self._left(f"exit {trial_id}")

    @override
    def trial_failed(self, ctx: SearcherContext, trial_id: int, reason: str) -> Sequence[Action]:
        if trial_id <= self.config.get("replace", 0):
            return [Create({"replaces": trial_id, "reason": reason})]
        return self._left(f"fail {trial_id}")

    def _left(self, key: str) -> list[Action]:
        self.state["left"] -= 1
        actions = self.answer(key)
        return actions if actions or self.state["left"] else [Shutdown()]

    @override
    def validate_at(self, trial_id: int) -> Sequence[int]:
        if self.config.get("wrong") == "points":
            return (point // 0 for point in [1])  # type: ignore[return-value]
        return self.config.get("points", ())  # type: ignore[no-any-return]

    @override
    def progress(self) -> float:
        if self.state.get("wrong") == "progress raises":
            raise RuntimeError("far from done")
        return "half" if self.state.get("wrong") == "progress" else 0.5  # type: ignore[return-value]

    @override
    def snapshot(self) -> dict[str, Any]:
        return None if self.state.get("wrong") == "shape" else self.state  # type: ignore[return-value]

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
