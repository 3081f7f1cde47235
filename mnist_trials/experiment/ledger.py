"""One step of the controller: everything an event changes in one transaction, then the actions that follow from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import final

from mnist_trials.clock import Clock
from mnist_trials.experiment.keeping import Keeper
from mnist_trials.experiment.removal import Upkeep
from mnist_trials.experiment.search import Search
from mnist_trials.store import Store, Transaction
from mnist_trials.testing.faults import fault_point


@final
@dataclass(slots=True)
class Step:
    """A transaction, and what is to be done once it is durable."""

    transaction: Transaction
    searched: bool = False  # the searcher was asked: its state is another one
    _actions: list[Callable[[], None]] = field(default_factory=list)

    def then(self, action: Callable[[], None]) -> None:
        """Have `action` called after the commit, in the order of the calls."""
        self._actions.append(action)

    def act(self) -> None:
        """Do what was put off."""
        for action in self._actions:
            action()


@final
class Ledger:
    """Makes the steps of one experiment, and counts its running time."""

    def __init__(
        self,
        store: Store,
        experiment_id: int,
        search: Search,
        keeper: Keeper,
        upkeep: Upkeep,
        clock: Clock,
    ) -> None:
        self._store = store
        self._experiment_id = experiment_id
        self._search = search
        self.keeper = keeper
        self._upkeep = upkeep
        self._clock = clock
        self._counted = clock.monotonic()

    @contextmanager
    def step(self, *, power_cut: bool = True) -> Iterator[Step]:
        """What is written in the `with` block is stored as a whole; then the step's actions are taken.

        `power_cut` False: see `Store.transaction`.

        Raises:
            StoreError: it could not be stored; no action was taken.
        """
        fault_point("controller.before_transaction")
        with self._store.transaction(power_cut=power_cut) as transaction:
            step = Step(transaction)
            yield step
            self._close(step)
            fault_point("controller.before_commit")
        fault_point("controller.after_commit")
        step.act()
        fault_point("controller.after_acting")

    def _close(self, step: Step) -> None:
        now = self._clock.monotonic()
        seconds, self._counted = now - self._counted, now
        progress = None
        if step.searched:
            self._search.save_if_due(step.transaction, self._experiment_id)
            progress = self._search.progress()
        step.transaction.update_experiment(self._experiment_id, progress=progress, add_seconds=seconds)
        given_up, unverified = self.keeper.review(step.transaction), self.keeper.unverified()
        if given_up or unverified:
            step.then(lambda: self._upkeep.put(unverified, given_up))
