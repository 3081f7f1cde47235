"""Finds slots for the trials of an experiment: its own that are free, of which no other experiment holds a part.

An experiment that must wait stands in a queue with others that wait for the same; it says so, and looks again when the
store has changed, or after a second: the end of a controller changes nothing in the store.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import final

from mnist_trials.clock import Clock
from mnist_trials.experiment.followers import Followers
from mnist_trials.experiment.leases import Leases, Market
from mnist_trials.experiment.ledger import Step
from mnist_trials.experiment.live import LiveTrial
from mnist_trials.experiment.offer import Offer
from mnist_trials.experiment.scheduler import Waiting, schedule
from mnist_trials.experiment.trials import Trials
from mnist_trials.records import Slot, TrialState
from mnist_trials.store import Store

_LOOK_SECONDS = 1.0


@final
class Placement:
    """Says which trial can start, and gives it its slots, within the step in which its run is stored."""

    def __init__(
        self,
        *,
        offer: Offer,
        leases: Leases | None,
        concurrency: int | None,
        trials: Trials,
        store: Store,
        followers: Followers,
        clock: Clock,
    ) -> None:
        """`leases` None: the slots are the launcher's. `concurrency`: so many trials at once at most."""
        self._offer = offer
        self._leases = leases
        self._at_once = offer.trials if concurrency is None else min(offer.trials, concurrency)
        self._trials = trials
        self._store = store
        self._followers = followers
        self._clock = clock
        self._waits: LiveTrial | None = None  # the trial for which the experiment stands in the queue
        self._why = ""  # as it was told last
        self._next_look = float("-inf")

    def begin(self, step: Step) -> None:
        """Nobody waits yet: what an earlier controller that was killed said of that is out of date."""
        for trial in self._trials.live.values():
            if trial.row.state is TrialState.QUEUED and trial.row.message:
                trial.row = replace(trial.row, message="")
                step.transaction.put_trial(trial.row)

    def next(self, *, changed: bool) -> LiveTrial | None:
        """The trial to `take` slots for now; None: none can start. `changed`: another process has written the store."""
        first = self._trials.first_ready()
        if first is None or self._schedule(first, self._free()) is None:
            return None
        if self._leases is None or self._waits is None:
            return first
        now = self._clock.monotonic()
        if not changed and now < self._next_look:
            return None
        self._next_look = now + _LOOK_SECONDS
        market = self._leases.market(self._store.holdings())
        news = first is not self._waits or market.why_not(self._offer.per_trial) != self._why
        return first if news or self._schedule(first, market.usable(self._free())) is not None else None

    def take(self, step: Step, trial: LiveTrial) -> tuple[Slot, ...] | None:
        """The slots by rank for the next run of `trial`, which holds them then; None: it has to wait, which is said."""
        if self._leases is None:
            return self._schedule(trial, self._free())
        market = self._leases.sweep(step.transaction)
        slots = self._schedule(trial, market.usable(self._free()))
        if slots is None:
            self._wait(step, trial, market, self._leases)
            return None
        self.withdraw(step)
        self._leases.take(step.transaction, market, slots, trial.row.trial_id, trial.runs + 1)
        return slots

    @property
    def waits(self) -> bool:
        """Whether the experiment stands in the queue."""
        return self._waits is not None

    @property
    def waits_in_vain(self) -> bool:
        """Whether the experiment stands in the queue though it has no trial to start any more."""
        return self._waits is not None and self._trials.first_ready() is None

    def withdraw(self, step: Step) -> None:
        """Leave the queue, if the experiment stands there."""
        if self._waits is None:
            return
        step.transaction.leave_queue(self._waits.row.experiment_id)
        self._say(step, self._waits, "")
        self._waits, self._why = None, ""

    def _free(self) -> list[Slot]:
        taken = {slot for trial in self._trials.running.values() for slot in trial.slots}
        return [slot for slot in self._offer.slots if slot not in taken]

    def _schedule(self, trial: LiveTrial, free: list[Slot]) -> tuple[Slot, ...] | None:
        room = self._at_once - len(self._trials.running)
        wanted = [Waiting(trial.row.trial_id, self._offer.per_trial)]
        starts = schedule(wanted, free, room, one_host=self._offer.one_host)
        return starts[0].slots if starts else None

    def _wait(self, step: Step, trial: LiveTrial, market: Market, leases: Leases) -> None:
        if self._waits is not None and self._waits is not trial:
            self._say(step, self._waits, "")
        self._why = leases.queue(step.transaction, market, self._offer.per_trial, trial.row.trial_id)
        self._waits = trial
        self._next_look = self._clock.monotonic() + _LOOK_SECONDS
        self._say(step, trial, self._why)

    def _say(self, step: Step, trial: LiveTrial, why: str) -> None:
        trial_id = trial.row.trial_id
        if trial_id in self._trials.live:
            trial.row = replace(trial.row, message=why)
            step.transaction.put_trial(trial.row)
        step.then(partial(self._followers.waiting, trial_id, why))
