"""A trial as the controller holds it in memory: its row, its workers, and what was asked of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

from mnist_trials.events import StopRequest
from mnist_trials.plugin.launcher import WorkerHandle
from mnist_trials.records import ErrorInfo, Outcome, Slot
from mnist_trials.store.rows import RunRow, TrialRow


@final
@dataclass(slots=True)
class LiveTrial:
    """One trial that has not ended."""

    row: TrialRow
    checkpoints: list[tuple[int, str]] = field(default_factory=list)  # (batches, uuid) to go on from, oldest first
    runs: int = 0  # attempts so far
    previous_error: ErrorInfo | None = None  # how the attempt before the present one failed
    run: RunRow | None = None  # the attempt that is on, or that has to be closed
    handle: WorkerHandle | None = None
    slots: tuple[Slot, ...] = ()
    asked: Outcome | None = None
    reported: bool = False
    metric_missing: bool = False  # said already
    progress_stored: float = float("-inf")  # monotonic seconds

    @property
    def running(self) -> bool:
        """Whether workers of it exist or are being started."""
        return self.handle is not None

    def ask(self, outcome: Outcome, reason: str) -> None:
        """Have the workers save and end with `outcome`."""
        self.asked = outcome
        if self.handle is not None:
            self.handle.request(StopRequest(outcome, reason))

    def kill(self, outcome: Outcome) -> None:
        """End the workers at once; the run counts as ended with `outcome`."""
        self.asked = outcome
        if self.handle is not None:
            self.handle.kill()
