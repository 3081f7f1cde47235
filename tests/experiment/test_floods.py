"""A worker that says more than can be stored: it waits, nothing piles up, and people are heard first."""

from __future__ import annotations

import importlib
import time
from typing import Any

from typing_extensions import override

from mnist_trials.events import Event, MetricsReported, Notice, Request, ValidationCompleted
from mnist_trials.experiment import inbox
from mnist_trials.experiment.inbox import Inbox
from mnist_trials.experiment.life import take_charge
from mnist_trials.plugin import Deliver, WorkerHandle
from mnist_trials.store import open_store


class Handle(WorkerHandle):
    """Keeps what was asked of it."""

    def __init__(self) -> None:
        self.held: list[bool] = []

    @override
    def start(self, deliver: Deliver) -> None: ...

    @override
    def request(self, request: Request) -> None: ...

    @override
    def kill(self) -> None: ...

    @override
    def hold_events(self, hold: bool) -> None:
        self.held.append(hold)

    @override
    def join(self, timeout: float) -> bool:
        return True


def report(batches: int) -> Event:
    return MetricsReported(trial_id=1, run=1, batches=batches, epochs=0.0, records=0, metrics={}, seconds=0.0)


def drained(box: Inbox) -> list[list[Event]]:
    groups = []
    while group := box.get(0.0):
        groups.append(group)
    return groups


def test_whoever_fills_the_inbox_is_held_and_heard_again_when_there_is_room() -> None:
    box, loud, quiet = Inbox(), Handle(), Handle()
    box.put(report(0), quiet)
    for number in range(inbox.FULL):
        box.put(report(number), loud)
    assert (loud.held, quiet.held) == ([True], [])
    drained(box)
    assert (loud.held, quiet.held) == ([True, False], [])


def test_an_event_of_a_trial_that_is_gone_holds_nobody() -> None:
    box = Inbox()
    for number in range(2 * inbox.FULL):
        box.put(report(number), None)
    assert sum(map(len, drained(box))) == 2 * inbox.FULL


def test_while_few_wait_each_event_comes_by_itself() -> None:
    box = Inbox()
    for number in range(20):
        box.put(report(number), None)
    assert [len(group) for group in drained(box)] == [1] * 20


def test_in_a_crowd_reports_come_together_in_order_with_at_most_one_other_event_last() -> None:
    box = Inbox()
    events: list[Event] = []
    for number in range(300):
        if number % 10 == 9:
            events.append(
                ValidationCompleted(trial_id=1, run=1, batches=number, epochs=0.0, records=0, metrics={}, seconds=0.0)
            )
        elif number == 105:
            events.append(Notice(trial_id=1, run=1, message="said"))
        else:
            events.append(report(number))
    for event in events:
        box.put(event, None)
    groups = drained(box)
    assert [event for group in groups for event in group] == events
    assert len(groups) < 100
    assert all(isinstance(event, MetricsReported) for group in groups for event in group[:-1])


def test_a_wake_up_is_not_an_event() -> None:
    box = Inbox()
    box.wake()
    assert box.get(60.0) == []
    box.put(report(1), None)
    assert box.get(60.0) == [report(1)]


def test_a_pause_overtakes_a_flood_of_reports(lab: Any) -> None:
    experiment_id = lab.submit(lab.config(launcher="local", events=10_000_000))
    told: list[int] = []
    asked_after = 1000

    def listen(event: Event) -> None:
        if isinstance(event, MetricsReported):
            told.append(event.batches)
            time.sleep(0.001)  # a slow logger
            if len(told) == asked_after:
                with open_store(lab.home) as store, store.transaction() as transaction:
                    transaction.add_command(experiment_id, "pause")

    summary = take_charge(
        lab.home, experiment_id, [importlib.import_module("recording_logger").Recording(listen)], target="flooding:run"
    )
    assert summary["state"] == "PAUSED"
    assert told == list(range(1, len(told) + 1))
    assert [batches for _, batches, _ in lab.values()] == told
    # What may be on its way: the inbox, what was just read, and what the pipe holds.
    assert len(told) - asked_after < 6 * inbox.FULL


def test_a_flood_that_ends_is_stored_to_the_last_report(lab: Any) -> None:
    experiment_id = lab.submit(lab.config(launcher="local", events=5000))
    summary = take_charge(lab.home, experiment_id, target="flooding:run")
    assert (summary["state"], summary["trials"][0]["batches"]) == ("COMPLETED", 5000)
    assert [batches for _, batches, _ in lab.values()] == list(range(1, 5001))
