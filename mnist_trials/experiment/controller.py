"""The controller: the one process that decides and stores for an experiment.

    until nothing is left to do:
        start the waiting trials that fit on the free slots
        take the next event from the inbox (while many wait: reports, on which nothing is decided, together)
        in one transaction: the event, what the searcher decides on it, the searcher's new state
        then act: start, stop, tell the followers

An action is taken after the decision for it is durable. So a controller that is killed at any point leaves a store that
says what was decided; the next one finds the actions that were not taken by comparing the store with the world.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType
from typing import final

from mnist_trials.clock import Clock
from mnist_trials.errors import PluginError, StoreError
from mnist_trials.events import Event, ProgressReported, WorkersExited
from mnist_trials.experiment import notices
from mnist_trials.experiment.conclusion import conclude
from mnist_trials.experiment.decisions import Decisions
from mnist_trials.experiment.disk import DiskWatch
from mnist_trials.experiment.followers import Followers
from mnist_trials.experiment.inbox import Inbox, is_report
from mnist_trials.experiment.ledger import Ledger, Step
from mnist_trials.experiment.live import LiveTrial
from mnist_trials.experiment.orders import Ending, Orders
from mnist_trials.experiment.placement import Placement
from mnist_trials.experiment.ranks import counts
from mnist_trials.experiment.removal import PATIENCE_SECONDS, Upkeep
from mnist_trials.experiment.search import Search
from mnist_trials.experiment.trial_events import TrialEvents
from mnist_trials.experiment.trials import Trials
from mnist_trials.experiment.validations import UnknownMetric
from mnist_trials.experiment.workers import SpecMaker
from mnist_trials.plugin import Launcher
from mnist_trials.records import ExperimentState, Outcome, TrialState
from mnist_trials.store import Store
from mnist_trials.store.rows import RunRow
from mnist_trials.testing.faults import fault_point

_TICK_SECONDS = 0.2  # how long a command from a person may lie unread
_PROGRESS_SECONDS = 1.0  # how often the progress of a trial is stored
_PARTING_SECONDS = 10.0  # how long workers that were killed are waited for


@final
class OutOfOrder(StoreError):
    """The store became unusable while trials ran."""

    exit_status = 1  # unlike other StoreErrors: something was started


@final
class Controller:
    """Runs one experiment. Made by `mnist_trials.experiment.life`, which holds the lock; for one thread."""

    def __init__(
        self,
        *,
        experiment_id: int,
        store: Store,
        ledger: Ledger,
        search: Search,
        trials: Trials,
        decisions: Decisions,
        events: TrialEvents,
        followers: Followers,
        launcher: Launcher,
        specs: SpecMaker,
        placement: Placement,
        upkeep: Upkeep,
        disks: DiskWatch,
        clock: Clock,
    ) -> None:
        self._experiment_id = experiment_id
        self._store = store
        self._ledger = ledger
        self._search = search
        self._trials = trials
        self._decisions = decisions
        self._events = events
        self._followers = followers
        self._launcher = launcher
        self._specs = specs
        self._placement = placement
        self._upkeep = upkeep
        self._disks = disks
        self._clock = clock
        self._inbox = Inbox()
        self._orders = Orders(experiment_id, trials, decisions)
        self._signals = 0
        self._thread = threading.get_ident()
        self._in_process = False  # the launcher runs trials in this very thread
        self._busy = False  # an event is being handled
        self._broken: BaseException | None = None  # what handling an event raised within such a trial

    def run(self, stale_command: int) -> ExperimentState:
        """Go on until the experiment ends or is paused.

        `stale_command` is the number of the last command that was meant for an earlier controller.

        Raises:
            OutOfOrder: something could not be stored; the workers were killed.
        """
        try:
            with self._signals_caught():
                self._begin(stale_command)
                self._loop()
                return self._finish()
        except (PluginError, UnknownMetric) as error:
            return self._fail(str(error))
        except (OSError, StoreError) as error:
            self._abandon()
            raise OutOfOrder(notices.out_of_order(self._experiment_id, error)) from error
        except BaseException:
            self._abandon()
            raise

    def _begin(self, stale_command: int) -> None:
        with self._ledger.step() as step:
            step.transaction.take_commands(self._experiment_id, stale_command)
            step.transaction.forget_holdings(self._experiment_id)  # an earlier controller's
            step.transaction.update_experiment(self._experiment_id, state=ExperimentState.ACTIVE, message="")
            self._placement.begin(step)
            self._decisions.begin(step)
            self._events.ends.close_lost(step)
            self._go_on(step)

    def _go_on(self, step: Step) -> None:
        self._events.ends.held = ""
        self._orders.activate(step)

    def _loop(self) -> None:
        while True:
            self._handle_signals()
            changed = self._store.changed_elsewhere()
            if changed:
                self._handle_commands()
            self._look_after_storage()
            self._start_trials(changed)
            if self._idle():
                return
            self._take(self._inbox.get(_TICK_SECONDS))

    def _idle(self) -> bool:
        """Whether nothing is left to do.

        Raises:
            PluginError: the searcher waits for trials that wait for the searcher.
        """
        if self._trials.running:
            return False
        if self._orders.ending is not None or not self._trials.live:
            return True
        if self._trials.first_ready() is not None:
            return False
        if not self._trials.all_heirs():
            raise PluginError(notices.at_a_loss(self._search.name, sorted(self._trials.resting)))
        with self._ledger.step() as step:
            self._decisions.give_up_waiting(step)
        return False

    def _start_trials(self, changed: bool) -> None:
        while self._orders.ending is None and (trial := self._placement.next(changed=changed)) is not None:
            self._start(trial)
        if self._orders.ending is not None or self._placement.waits_in_vain:
            self._withdraw()

    def _withdraw(self) -> None:
        if self._placement.waits:
            with self._ledger.step() as step:
                self._placement.withdraw(step)

    def _start(self, trial: LiveTrial) -> None:
        with self._ledger.step() as step:
            slots = self._placement.take(step, trial)
            if slots is None:
                return
            trial.runs += 1
            trial.row = replace(trial.row, state=TrialState.STARTING, message="")
            trial.run = RunRow(
                trial_id=trial.row.trial_id,
                run=trial.runs,
                slots=tuple(slot.id for slot in slots),
                started=step.transaction.time,
            )
            step.transaction.put_trial(trial.row)
            step.transaction.put_run(self._experiment_id, trial.run)
        trial.slots = slots
        self._trials.place(trial)
        self._launch(trial)

    def _launch(self, trial: LiveTrial) -> None:
        trial_id, run = trial.row.trial_id, trial.runs
        points = self._search.validate_at(trial_id) if trial.can_hold else ()
        trial.holds_at = trial.hold_point(awaited=bool(self._trials.heirs(trial_id)))
        workers = self._specs.specs(trial, trial.slots, points)
        handle = self._launcher.create(workers)
        fault_point("controller.before_start")
        trial.handle = handle
        try:
            handle.start(self.deliver)
        except KeyboardInterrupt:
            if self._signals < 2:
                raise
        if self._broken is not None:
            raise self._broken
        if self._in_process and trial.running and trial.runs == run:  # torn out of the trial by a second signal
            self._take([WorkersExited(trial_id=trial_id, run=run, exit_codes=(None,) * len(workers))])

    def deliver(self, event: Event) -> None:
        """Hand over an event of a worker; may be called from any thread."""
        if threading.get_ident() != self._thread:
            trial = self._trials.live.get(event.trial_id)
            self._inbox.put(event, None if trial is None else trial.handle)
            return
        self._in_process = True
        if self._broken is not None:
            return
        self._busy = True
        try:
            self._take([event])
            self._look_after_storage()
            self._handle_signals()
            if self._store.changed_elsewhere():
                self._handle_commands()
        except BaseException as error:
            # The trial's own code lies between here and the loop and must not swallow this.
            self._broken = error
            self._orders.kill_all(Outcome.PAUSED)
        finally:
            self._busy = False

    def _take(self, events: Sequence[Event]) -> None:
        told = [event for event in events if self._counts(event)]
        progress = [event for event in told if isinstance(event, ProgressReported)]
        if len(progress) == len(told) and not any(self._progress_due(event) for event in progress):
            for report in progress:
                self._events.note_progress(self._trials.live[report.trial_id], report)
                self._followers.event(report)
            return
        # Nothing is decided on reports, so they need not outlive a power cut; they are most of all events.
        with self._ledger.step(power_cut=not all(map(is_report, told))) as step:
            for event in told:
                trial = self._trials.live[event.trial_id]
                assert trial.run is not None
                self._events.apply(step, trial, trial.run, event)
            if self._events.ends.held:
                self._orders.pause(step)

    def _counts(self, event: Event) -> bool:
        trial = self._trials.live.get(event.trial_id)
        return trial is not None and trial.run is not None and event.run == trial.run.run and counts(trial, event)

    def _progress_due(self, event: ProgressReported) -> bool:
        trial = self._trials.live[event.trial_id]
        now = self._clock.monotonic()
        if now - trial.progress_stored < _PROGRESS_SECONDS:
            return False
        trial.progress_stored = now
        return True

    def _look_after_storage(self) -> None:
        """Put on record what is verified and deleted by now, and pause before there is no room left."""
        self._note_verified()
        self._note_removed()
        if self._orders.ending is not None or not (why := self._ledger.keeper.over or self._disks.short):
            return
        self._events.ends.held = why
        with self._ledger.step() as step:
            step.transaction.add_notice(self._experiment_id, None, f"the experiment is paused: {why}")
            self._orders.pause(step)

    def _note_verified(self) -> None:
        if results := self._upkeep.verifier.done():
            with self._ledger.step() as step:
                for trial_id, message in self._ledger.keeper.verified(step.transaction, results):
                    self._events.tell(step, trial_id, message)

    def _note_removed(self) -> None:
        if removed := self._upkeep.remover.done():
            # If it is lost, they are deleted once more.
            with self._store.transaction(power_cut=False) as transaction:
                transaction.checkpoints_deleted(uuid for uuid, _ in removed)

    def _drain(self) -> None:
        """Wait until what can be given up is deleted, and say so if that cannot be done now."""
        verifier, remover = self._upkeep.verifier, self._upkeep.remover
        verifier.drain(PATIENCE_SECONDS, lambda: self._signals > 1)
        self._note_verified()
        remover.drain(PATIENCE_SECONDS, lambda: self._signals > 1)
        self._note_removed()
        left = (
            notices.not_verified(verifier.pending, verifier.cause),
            notices.not_removed(self._experiment_id, remover.pending, remover.cause),
        )
        for message in filter(None, left):
            with self._store.transaction() as transaction:
                transaction.add_notice(self._experiment_id, None, message)

    def _handle_commands(self) -> None:
        for number, command in self._store.waiting_commands(self._experiment_id):
            with self._ledger.step() as step:
                step.transaction.take_commands(self._experiment_id, number)
                self._obey(step, command)

    def _handle_signals(self) -> None:
        if self._signals > 1:
            self._orders.kill_by_signal()
        elif self._signals == 1 and self._orders.ending is None:
            with self._ledger.step() as step:
                self._orders.pause(step)

    def _obey(self, step: Step, command: str) -> None:
        if command == "activate":
            if self._orders.ending is Ending.PAUSE and not self._signals:
                self._go_on(step)
        elif command == "pause":
            self._orders.pause(step)
        else:
            self._orders.end(step, Ending(command))

    def _finish(self) -> ExperimentState:
        state, message = self._result()
        if state is ExperimentState.CANCELED and self._trials.live:
            with self._ledger.step() as step:
                for trial in tuple(self._trials.live.values()):
                    self._decisions.end(step, trial, TrialState.CANCELED, "", None)
        self._drain()  # first: an experiment that has ended is not taken up again
        with self._ledger.step() as step:
            for trial in tuple(self._trials.live.values()):
                if trial.runs:
                    trial.row = replace(trial.row, state=TrialState.PAUSED)
                    step.transaction.put_trial(trial.row)
            if state is ExperimentState.PAUSED:
                self._search.save(step.transaction, self._experiment_id)
            step.transaction.update_experiment(self._experiment_id, state=state, message=message)
        return state

    def _result(self) -> tuple[ExperimentState, str]:
        ending = self._orders.ending
        if ending in (Ending.CANCEL, Ending.KILL):
            return ExperimentState.CANCELED, "killed" if ending is Ending.KILL else "cancelled"
        if ending is Ending.PAUSE and self._trials.live:
            return ExperimentState.PAUSED, self._events.ends.held
        return conclude(self._trials.ended, self._search.why)

    def _fail(self, message: str) -> ExperimentState:
        """A plugin the whole experiment depends on has failed: nothing can be decided any more."""
        self._abandon()
        self._decisions.closed = True
        self._ledger.keeper = self._ledger.keeper.without_trials()
        with self._ledger.step() as step:
            # Not by what is in memory: that may be ahead of the transaction that failed.
            step.transaction.cancel_trials(self._experiment_id, "the experiment ended in error")
            step.transaction.update_experiment(self._experiment_id, state=ExperimentState.ERROR, message=message)
        self._drain()
        return ExperimentState.ERROR

    def _abandon(self) -> None:
        """End all workers, whatever became of the store."""
        handles = [trial.handle for trial in self._trials.running.values() if trial.handle is not None]
        for handle in handles:
            handle.kill()
        if not self._in_process:
            for handle in handles:
                handle.join(_PARTING_SECONDS)

    @contextmanager
    def _signals_caught(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        caught = (signal.SIGINT, signal.SIGTERM)
        before = [signal.signal(number, self._on_signal) for number in caught]
        try:
            yield
        finally:
            for number, handler in zip(caught, before, strict=True):
                signal.signal(number, handler)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._signals += 1
        self._inbox.wake()
        if self._signals > 1 and self._in_process:
            self._orders.kill_by_signal()
            if not self._busy:
                raise KeyboardInterrupt  # out of the trial that runs in this thread
