"""A logger that keeps all it is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from typing_extensions import override

from mnist_trials.events import Event
from mnist_trials.plugin import Logger, LoggerContext


class Recording(Logger):
    """`when` is called with every event."""

    def __init__(self, when: Callable[[Event], None] = lambda event: None) -> None:
        self.calls: list[tuple[str, Any]] = []
        self._when = when

    @override
    def start(self, context: LoggerContext) -> None:
        self.calls.append(("start", context))

    @override
    def trial_created(self, trial_id: int, hparams: Any) -> None:
        self.calls.append(("trial_created", trial_id))

    @override
    def event(self, event: Event) -> None:
        self.calls.append((type(event).__name__, event))
        self._when(event)

    @override
    def finish(self, summary: Any) -> None:
        self.calls.append(("finish", summary))
