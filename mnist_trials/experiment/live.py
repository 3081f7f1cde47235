"""A trial as the controller holds it in memory: its row, its workers, and what was asked of them."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field
from typing import final

from mnist_trials.events import GoOn, StopRequest
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
    notices: dict[str, int] = field(default_factory=dict)  # of the attempt that is on: text, and which rank said it
    metric_missing: bool = False  # said already
    time_missing: bool = False  # said already
    progress_stored: float = float("-inf")  # monotonic seconds
    judged_units: int = -1  # of the last validation the searcher was told of; -1: none yet
    holds_at: int | None = None  # the units at which its workers, as they were told, wait for word; None: nowhere
    can_hold: bool = True  # False: its length is a metric, of which its workers know nothing in advance
    weights: str | None = None  # the checkpoint of `row.source_trial` that it starts with, once there is one

    @property
    def running(self) -> bool:
        """Whether an attempt is on: workers of it exist, are being started, or died with their controller."""
        return self.run is not None

    @property
    def at_rest(self) -> bool:
        """Whether the searcher has paused it, and nothing is left to be saved."""
        return self.row.resting and not self._unsaved

    @property
    def without_source(self) -> bool:
        """Whether it waits for the weights that it starts with."""
        return self.row.source_trial is not None and self.weights is None and not self.checkpoints

    def needs(self, uuid: str, unverified: Container[str] = ()) -> bool:
        """Whether the checkpoint `uuid` must be kept for as long as this trial has not ended.

        It goes on from the latest. Other trials may begin with the first since it was judged. Its worker, while it
        starts, may go on from any. On those that are `unverified` no one relies.
        """
        if self.run is not None and not self.run.backend:
            return any(uuid == own for _, own in self.checkpoints)
        sound = [(batches, own) for batches, own in self.checkpoints if own not in unverified]
        if not sound:
            return False
        judged = self.row.judged_batches
        first = next((own for batches, own in sound if batches >= judged), None) if judged >= 0 else None
        return uuid in (sound[-1][1], first)

    def hold_point(self, *, awaited: bool) -> int | None:
        """How many units its next workers train before they wait for word; None: to the end.

        Where it was judged, if another trial waits for its weights of then (`awaited`) and it died before it was saved;
        else where the searcher wants.
        """
        if not self.can_hold:
            return None
        if awaited and self.judged_units > 0 and self._saved < self.row.judged_batches:
            return self.judged_units
        return self.row.until

    @property
    def _saved(self) -> int:
        """The batches at its last checkpoint; -1: there is none."""
        return self.checkpoints[-1][0] if self.checkpoints else -1

    @property
    def _unsaved(self) -> bool:
        """Whether it was judged where it is to be held, and died before it was saved there."""
        return self._is_judged_at(self.row.until) and self._saved < self.row.judged_batches

    def _is_judged_at(self, until: int | None) -> bool:
        return self.can_hold and until is not None and self.judged_units >= until

    def ask(self, outcome: Outcome, reason: str) -> None:
        """Have the workers save and end with `outcome`."""
        self.asked = outcome
        if self.handle is not None:
            self.handle.request(StopRequest(outcome, reason))

    def enough(self, reason: str) -> None:
        """Have the workers save and end as complete, unless they were asked for something already."""
        if self.asked is None:
            self.ask(Outcome.COMPLETED, reason)

    def kill(self, outcome: Outcome) -> None:
        """End the workers at once; the run counts as ended with `outcome`."""
        self.asked = outcome
        if self.handle is not None:
            self.handle.kill()

    def steer(self) -> None:
        """Have the workers do what the searcher wants, by the row."""
        if self.handle is None or self.asked is Outcome.CANCELED:
            return
        if self.row.stop_requested:
            if self.asked is not Outcome.STOPPED:
                self.ask(Outcome.STOPPED, "stopped by the searcher")
        elif self.asked is None:
            if self._is_judged_at(self.holds_at):
                return  # they are about to be held, and saved before that: the answer is given then
            if self.row.resting:
                self.ask(Outcome.PAUSED, "paused by the searcher")
            elif self.row.until is not None and self.judged_units >= self.row.until:
                self.enough(_AS_FAR)

    def answer(self) -> None:
        """Give the workers, which are held, the word they wait for."""
        if self.handle is None or self.asked is not None:
            return  # what was asked is the answer
        until = self.row.until
        if self.row.resting:
            self.ask(Outcome.PAUSED, "paused by the searcher")
        elif until is None or self.holds_at is None or until > self.holds_at:
            self.holds_at = until
            self.handle.request(GoOn(until))
        else:
            self.enough(_AS_FAR)


_AS_FAR = "it has trained as far as the searcher wants"
