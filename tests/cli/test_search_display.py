"""What is shown while a search runs: as lines, and live on a terminal."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mnist_trials.cli.display import PlainDisplay
from mnist_trials.cli.figures import Figures
from mnist_trials.cli.live import LiveDisplay
from mnist_trials.cli.sentences import TrialView
from mnist_trials.cli.story import Story
from mnist_trials.clock import Clock
from mnist_trials.events import (
    CheckpointSaved,
    DatasetChosen,
    Event,
    MetricsReported,
    Notice,
    ProgressReported,
    TrialExited,
    TrialStarted,
    ValidationCompleted,
    WorkersExited,
)
from mnist_trials.plugin.logger import LoggerContext
from mnist_trials.records import CheckpointInfo, ErrorInfo, ExperimentState, Outcome, TrialState
from mnist_trials.store import Reader, open_reader, open_store
from tests.cli.written_search import CONFIG, WHY, Record, actions
from tests.clocks import HandClock

CONTEXT = LoggerContext(experiment_id=1, name="search", config=CONFIG, directory=Path())


@pytest.fixture
def reader(record: Record) -> Iterator[Reader]:
    with open_reader(record.home) as opened:
        yield opened


def who(trial_id: int, run: int = 1) -> dict[str, Any]:
    return {"trial_id": trial_id, "run": run}


def started(trial_id: int, batches: int = 0) -> TrialStarted:
    checkpoint = "abc" if batches else None
    place: dict[str, Any] = {"pid": 42, "host": "here", "backend": "cpu", "device": "cpu"}
    return TrialStarted(**who(trial_id), **place, batches=batches, checkpoint=checkpoint)


def validated(trial_id: int, batches: int = 256, loss: float = 0.5) -> ValidationCompleted:
    values = {"validation_loss": loss}
    return ValidationCompleted(**who(trial_id), batches=batches, epochs=1.0, records=9, metrics=values, seconds=1.0)


def left(trial_id: int, outcome: Outcome, batches: int = 256) -> list[Event]:
    return [
        TrialExited(**who(trial_id), outcome=outcome, batches=batches),
        WorkersExited(**who(trial_id), exit_codes=(0,)),
    ]


class Plain:
    """A plain display of the search, and the lines it wrote."""

    def __init__(self, reader: Reader) -> None:
        self.lines: list[str] = []
        self.display = PlainDisplay(self.lines.append, HandClock(), Story(reader, 1))
        self.display.start(CONTEXT)

    def see(self, *events: Event) -> list[str]:
        """The lines that `events` make."""
        before = len(self.lines)
        for event in events:
            self.display.event(event)
        return self.lines[before:]


def test_a_trial_has_a_line_for_its_start_and_one_for_its_end_and_none_for_reports(reader: Reader) -> None:
    info = CheckpointInfo(uuid="abc", batches=9, epochs=1.0, records=9, metrics={}, bytes=1, location="/x")
    report = MetricsReported(**who(3), batches=100, epochs=1.0, records=640, metrics={"loss": 0.4}, seconds=1.0)
    plain = Plain(reader)
    plain.display.trial_created(3, {"lr": 0.3})
    events = [started(3), report, validated(3), CheckpointSaved(**who(3), checkpoint=info)]
    assert plain.see(*events, *left(3, Outcome.COMPLETED)) == [
        "trial 1.3 started: lr 0.3",
        "trial 1.3 completed at batch 256: validation_loss 0.5",
    ]


def test_a_stop_has_one_line_with_its_reason(record: Record, reader: Reader) -> None:
    plain = Plain(reader)
    plain.see(started(3))
    record.validated(3, 0.52, [{"action": "Stop", "trial_id": 3, "why": WHY}, *actions(("Create", 12))])
    (line,) = plain.see(validated(3), *left(3, Outcome.STOPPED))
    assert line.startswith("trial 1.3 was stopped at rung 1 (256 batches) of bracket 0: rank 5 of 9, the best 2 go on")
    assert line.endswith("trial 1.12 took its place")


def test_a_pause_and_the_start_after_it_have_a_line_each(record: Record, reader: Reader) -> None:
    plain = Plain(reader)
    plain.see(started(3))
    record.validated(3, 0.52, actions(("Pause", 3)))
    assert plain.see(validated(3), *left(3, Outcome.PAUSED)) == ["trial 1.3 was paused"]
    assert plain.see(started(3, batches=256)) == ["trial 1.3 goes on from batch 256"]
    assert plain.see(*left(3, Outcome.PAUSED)) == ["trial 1.3 paused at batch 256"]  # by a person: nothing was decided


def test_a_failure_is_told_in_a_line(reader: Reader) -> None:
    error = ErrorInfo(type="ValueError", message="no\nmore", traceback="", batches=9)
    failed = TrialExited(**who(3), outcome=Outcome.FAILED, batches=9, error=error)
    assert Plain(reader).see(failed) == ["trial 1.3 failed at batch 9: ValueError: no"]


def test_what_holds_for_many_trials_is_said_once(reader: Reader) -> None:
    said = Plain(reader).see(
        *(DatasetChosen(**who(i), dataset="digits", detail="No MNIST.", fallback=True) for i in (1, 2)),
        *(Notice(**who(i), message="the disk is slow") for i in (1, 2)),
    )
    assert said == [
        "ATTENTION: trial 1.1 trains on digits. No MNIST.",
        "trial 1.1 notice: the disk is slow",
    ]


def test_what_was_decided_before_is_not_told_again(record: Record, reader: Reader) -> None:
    record.validated(3, 0.52, actions(("Stop", 3)))
    plain = Plain(reader)
    record.validated(4, 0.52, actions(("Stop", 4)))
    assert plain.see(validated(4)) == ["trial 1.4 was stopped"]


def test_the_end_of_the_search_is_told_with_its_reason(record: Record, reader: Reader) -> None:
    record.decided(2, "trial_exited", [])
    plain = Plain(reader)
    record.decided(3, "trial_exited", [{"action": "Shutdown", "why": "too many were invalid"}])
    assert plain.see(*left(3, Outcome.COMPLETED))[1:] == ["trial 1.3 ended; the search ended: too many were invalid"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("LINES", "12")
    return Terminal()


def live(terminal: Terminal, reader: Reader, *events: Event, clock: Clock | None = None) -> str:
    """What the terminal got from the last event on."""
    display = LiveDisplay(terminal, Story(reader, 1), Figures(reader, 1, clock or HandClock()))
    display.start(CONTEXT)
    try:
        for event in events:
            seen = len(terminal.getvalue())
            display.event(event)
            display.refresh()
    finally:
        display.close()
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue()[seen:])


def progress(trial_id: int) -> ProgressReported:
    return ProgressReported(**who(trial_id), batches=7, epochs=0.1, records=448, total_batches=1024)


def test_below_the_bars_is_how_the_search_stands(record: Record, reader: Reader, terminal: Terminal) -> None:
    record.trials(12, state=TrialState.COMPLETED, stopped_early=True)
    record.trials(7, state=TrialState.COMPLETED, best_metric=0.5)
    record.trials(4, state=TrialState.QUEUED, best_metric=None)
    record.trials(3, state=TrialState.PAUSED, best_metric=None)
    record.trials(2, state=TrialState.RUNNING, best_metric=None)
    record.trials(1, state=TrialState.ERROR, best_metric=None)
    with open_store(record.home) as store, store.transaction() as transaction:
        transaction.update_experiment(record.id, progress=0.42)
    text = live(terminal, reader, started(2), progress(2))
    assert "batch 7/1024" in text
    assert "42 % done; 1 running, 1 queued, 1 paused, 5 stopped, 3 completed, 1 failed" in text
    assert "best: trial 1.8 at batch 100: validation_loss 0.05  (lr 0.8)" in text


def test_the_last_decisions_are_shown_below_and_not_above(record: Record, reader: Reader, terminal: Terminal) -> None:
    record.validated(1, 0.5, [])
    display = LiveDisplay(terminal, Story(reader, 1), Figures(reader, 1, HandClock()))
    display.start(CONTEXT)
    for trial_id in range(1, 6):
        record.validated(trial_id, 0.5, actions(("Stop", trial_id)))
        display.event(validated(trial_id))
    terminal.truncate(0)
    display.refresh()
    shown = re.findall(r"decided: trial (1\.\d) stopped", terminal.getvalue())
    display.close()
    assert shown == ["1.3", "1.4", "1.5"]
    assert "1.1 stopped" not in terminal.getvalue()


def test_the_reason_of_a_decision_is_shown_in_few_words(record: Record, reader: Reader, terminal: Terminal) -> None:
    story = Story(reader, 1)
    pause, resume = {"action": "Pause", "trial_id": 3, "why": WHY}, {"action": "Resume", "trial_id": 2, "until": 1024}
    record.validated(3, 0.5, [{"action": "Stop", "trial_id": 3, "why": WHY}, *actions(("Create", 12))])
    record.validated(3, 0.5, [pause, {**resume, "why": "the best"}])
    record.validated(3, 0.5, [pause, {**resume, "trial_id": 3, "why": WHY}])
    record.validated(3, 0.5, [{"action": "Stop", "trial_id": 3}, {"action": "Shutdown", "why": "enough"}])
    assert [line.short for line in story.lines(TrialView("1.3"), validated(3))] == [
        "trial 1.3 stopped: rank 5 of 9 at rung 1; trial 1.12 took its place",
        "trial 1.3 paused: rank 5 of 9 at rung 1; trial 1.2 goes on to 1024 batches: the best",
        "trial 1.3 goes on to 1024 batches: rank 5 of 9 at rung 1",
        "",  # why a search ends is told in full
    ]


def test_more_bars_than_the_terminal_has_room_for_are_counted(reader: Reader, terminal: Terminal) -> None:
    text = live(terminal, reader, *(event for i in range(1, 10) for event in (started(i), progress(i))))
    assert set(re.findall(r"(1\.\d) +━", text)) == {"1.1", "1.2", "1.3", "1.4"}
    assert "and 5 more trials are running" in text


def test_a_narrow_terminal_shows_which_trial_each_line_is_of(
    reader: Reader, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    report = MetricsReported(**who(11), batches=1000, epochs=9.75, records=64000, metrics={"loss": 0.5}, seconds=1.0)
    text = live(terminal, reader, started(11), progress(11), started(12), progress(12), report)
    assert set(re.findall(r"\b1\.1\d ", text)) == {"1.11 ", "1.12 "}


def test_the_time_that_is_left_is_estimated_from_the_progress_since_the_beginning(
    record: Record, reader: Reader
) -> None:
    clock = HandClock()
    figures = Figures(reader, 1, clock)

    def at(seconds: float, share: float) -> str:
        with open_store(record.home) as store, store.transaction() as transaction:
            transaction.update_experiment(record.id, progress=share)
        clock.now = seconds
        figures.refresh()
        return figures.lines[0].partition(";")[0]

    assert at(0, 0.5) == "50 % done"
    assert at(10, 0.51) == "51 % done"
    assert at(60, 0.6) == "60 % done, about 4 min 00 s left"
    assert at(60.5, 0.7) == "60 % done, about 4 min 00 s left"  # looked at just now
    assert at(120, 1.0) == "100 % done"


def test_the_best_is_the_largest_where_larger_is_better(record: Record, home: Path, trial_row: Any) -> None:
    searcher = {**CONFIG["searcher"], "smaller_is_better": False}
    other = Record(home, trial_row, {**CONFIG, "searcher": searcher})
    other.trials(3, best_metric=0.1)
    with open_store(home) as store, store.transaction() as transaction:
        transaction.put_trial(replace(trial_row, experiment_id=other.id, trial_id=2, best_metric=0.7))
        transaction.update_experiment(other.id, state=ExperimentState.COMPLETED)
    with open_reader(home) as opened:
        assert [row.trial_id for row in opened.best_trials(other.id, 2)] == [2, 1]
        assert [row.trial_id for row in opened.best_trials(record.id, 2)] == [1, 2]
