"""What is shown while an experiment runs: as lines, and live on a terminal."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest

from mnist_trials.cli.display import PlainDisplay
from mnist_trials.cli.live import LiveDisplay
from mnist_trials.clock import Clock
from mnist_trials.events import (
    CheckpointRejected,
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
from mnist_trials.records import CheckpointInfo, ErrorInfo, Outcome
from tests.clocks import HandClock

WHO: dict[str, Any] = {"trial_id": 1, "run": 1}
CONTEXT = LoggerContext(experiment_id=3, name="digits", config={}, directory=Path())
STARTED = TrialStarted(**WHO, pid=42, host="here", backend="cpu", device="cpu", batches=0, checkpoint=None)


def reported(batches: int, loss: float | None = 0.5) -> MetricsReported:
    return MetricsReported(
        **WHO, batches=batches, epochs=batches / 100, records=64 * batches, metrics={"loss": loss}, seconds=2.0
    )


def shown(*events: Event, clock: Clock | None = None) -> list[str]:
    lines: list[str] = []
    display = PlainDisplay(lines.append, clock or HandClock())
    display.start(CONTEXT)
    for event in events:
        display.event(event)
    display.finish({})
    return lines


def test_a_new_trial_is_shown_with_its_hyperparameters() -> None:
    lines: list[str] = []
    display = PlainDisplay(lines.append, HandClock())
    display.start(CONTEXT)
    display.trial_created(1, {"lr": 0.1, "hidden": 3})
    assert lines == ["trial 3.1 created: lr 0.1  hidden 3"]


CASES: list[tuple[Event, str]] = [
    (STARTED, "trial 3.1 started on cpu of here, process 42"),
    (
        TrialStarted(trial_id=1, run=2, pid=42, host="here", backend="cpu", device="cpu", batches=50, checkpoint="abc"),
        "trial 3.1 goes on from batch 50 (checkpoint abc) on cpu of here, process 42",
    ),
    (
        TrialStarted(**WHO, pid=42, host="here", backend="cpu", device="cpu", batches=0, checkpoint="abc"),
        "trial 3.1 started with the weights of checkpoint abc on cpu of here, process 42",
    ),
    (DatasetChosen(**WHO, dataset="mnist", detail="60,000"), "trial 3.1 data: mnist, 60,000"),
    (
        DatasetChosen(**WHO, dataset="digits", detail="No MNIST was found.", fallback=True),
        "ATTENTION: trial 3.1 trains on digits. No MNIST was found.",
    ),
    (Notice(**WHO, message="the disk is slow"), "trial 3.1 notice: the disk is slow"),
    (
        ValidationCompleted(
            **WHO, batches=9, epochs=1.0, records=9, metrics={"accuracy": 0.98123, "f1": None}, seconds=1.0
        ),
        "trial 3.1 validation at batch 9: accuracy 0.9812  f1 nan",
    ),
    (
        CheckpointSaved(
            **WHO,
            checkpoint=CheckpointInfo(uuid="abc", batches=9, epochs=1.0, records=9, metrics={}, bytes=1, location="/x"),
        ),
        "trial 3.1 checkpoint at batch 9: abc",
    ),
    (
        CheckpointRejected(**WHO, uuid="abc", reason="model.safetensors differs"),
        "ATTENTION: trial 3.1 checkpoint abc is not used: model.safetensors differs",
    ),
    (TrialExited(**WHO, outcome=Outcome.PAUSED, batches=9), "trial 3.1 paused at batch 9"),
    (
        TrialExited(
            **WHO,
            outcome=Outcome.FAILED,
            batches=9,
            error=ErrorInfo(type="ValueError", message="no\nmore", traceback="", batches=9),
        ),
        "trial 3.1 failed at batch 9: ValueError: no",
    ),
    (WorkersExited(**WHO, exit_codes=(-9,)), "ATTENTION: trial 3.1 was ended by signal 9"),
    (WorkersExited(**WHO, exit_codes=(7,)), "ATTENTION: trial 3.1 ended without a word, exit status 7"),
    (
        WorkersExited(**WHO, exit_codes=(None,), reason="no such interpreter"),
        "ATTENTION: trial 3.1 could not be started or was lost: no such interpreter",
    ),
]


@pytest.mark.parametrize(("event", "line"), CASES, ids=[line for _, line in CASES])
def test_an_event_is_shown_in_a_sentence(event: Event, line: str) -> None:
    assert shown(event) == [line]


def test_an_end_that_the_worker_has_told_is_not_told_again() -> None:
    exited = TrialExited(**WHO, outcome=Outcome.COMPLETED, batches=9)
    assert shown(exited, WorkersExited(**WHO, exit_codes=(0,))) == ["trial 3.1 completed at batch 9"]


def test_training_metrics_are_written_at_most_once_in_five_seconds() -> None:
    lines: list[str] = []
    clock = HandClock()
    display = PlainDisplay(lines.append, clock)
    display.start(CONTEXT)
    display.event(STARTED)
    for second in range(12):
        clock.now = second
        display.event(ProgressReported(**WHO, batches=second, epochs=0.0, records=0, total_batches=938))
        display.event(reported(batches=100 * second + 100))
    assert [line.split("  ")[0] for line in lines[1:]] == [
        "trial 3.1 batch 100/938 (epoch 1.00)",
        "trial 3.1 batch 600/938 (epoch 6.00)",
        "trial 3.1 batch 1100/938 (epoch 11.00)",
    ]


def test_the_speed_is_that_of_the_last_reporting_period() -> None:
    lines = shown(STARTED, reported(100))
    assert lines[-1] == "trial 3.1 batch 100 (epoch 1.00)  loss 0.5  3,200 samples/s"


def test_the_speed_of_a_trial_that_goes_on_is_unknown_until_its_second_report() -> None:
    goes_on = TrialStarted(
        trial_id=1, run=2, pid=1, host="here", backend="cpu", device="cpu", batches=50, checkpoint="abc"
    )
    assert shown(goes_on, reported(100))[-1] == "trial 3.1 batch 100 (epoch 1.00)  loss 0.5"


def test_a_process_that_fails_after_its_trial_has_ended_is_told() -> None:
    completed = TrialExited(**WHO, outcome=Outcome.COMPLETED, batches=9)
    assert shown(completed, WorkersExited(**WHO, exit_codes=(1,)))[1:] == [
        "ATTENTION: trial 3.1 had ended when its process failed, exit status 1; see its log"
    ]


def test_the_exit_status_of_a_trial_that_failed_says_nothing_new() -> None:
    error = ErrorInfo(type="ValueError", message="no", traceback="", batches=9)
    failed = TrialExited(**WHO, outcome=Outcome.FAILED, batches=9, error=error)
    assert len(shown(failed, WorkersExited(**WHO, exit_codes=(1,)))) == 1


def test_a_trial_that_waits_is_told_once_each_time_it_waits() -> None:
    lines: list[str] = []
    display = PlainDisplay(lines.append, HandClock())
    display.start(CONTEXT)
    for why in ("waits for a", "waits for b", "", "waits for c"):
        display.waiting(1, why)
    assert lines == ["trial 3.1 waits for a", "trial 3.1 waits for c"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Terminal()


def live(terminal: Terminal, *events: Event) -> str:
    """What the terminal got from the last event on."""
    display = LiveDisplay(terminal)
    display.start(CONTEXT)
    try:
        for event in events:
            seen = len(terminal.getvalue())
            display.event(event)
    finally:
        display.close()
        display.close()
    return terminal.getvalue()[seen:]


PROGRESS = ProgressReported(**WHO, batches=100, epochs=0.11, records=6400, total_batches=938)


def test_a_running_trial_has_a_bar_with_its_place_speed_and_metrics(terminal: Terminal) -> None:
    validation = ValidationCompleted(**WHO, batches=100, epochs=1.0, records=64, metrics={"accuracy": 0.9}, seconds=1.0)
    text = live(terminal, STARTED, PROGRESS, reported(100), validation)
    for piece in ("3.1", "batch 100/938", "epoch 1.00", "3,200 samples/s", "loss 0.5  accuracy 0.9"):
        assert piece in text


def test_a_narrow_terminal_cuts_the_metrics_and_not_the_line(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    text = live(terminal, STARTED, PROGRESS, reported(100), PROGRESS)
    assert "batch 100/938" in text
    assert all(len(re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", line)) <= 60 for line in re.split(r"[\r\n]", text))


def test_what_stays_to_be_read_is_written_above_the_bars_letter_by_letter(terminal: Terminal) -> None:
    assert "trial 3.1 notice: see [docs] and :smile:" in live(
        terminal, STARTED, Notice(**WHO, message="see [docs] and :smile:")
    )


def test_the_bar_of_a_trial_that_has_gone_is_removed(terminal: Terminal) -> None:
    assert "batch" in live(terminal, STARTED, PROGRESS)
    gone = WorkersExited(**WHO, exit_codes=(-9,))
    assert "batch" not in live(terminal, STARTED, PROGRESS, gone)


def test_the_terminal_is_left_as_it_was(terminal: Terminal) -> None:
    live(terminal, STARTED, PROGRESS)
    text = terminal.getvalue()
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1  # the cursor is hidden, and shown again
    assert text.endswith("\x1b[2K")  # the bars are wiped


def test_what_a_trial_waits_for_now_is_shown_as_long_as_it_waits(terminal: Terminal) -> None:
    display = LiveDisplay(terminal)
    display.start(CONTEXT)

    def after(why: str) -> str:
        seen = len(terminal.getvalue())
        display.waiting(1, why)
        display.refresh()
        return terminal.getvalue()[seen:]

    try:
        assert "trial 3.1 waits for a" in after("waits for a")
        assert "trial 3.1 waits for b" in after("waits for b")
        assert "waits" not in after("")
    finally:
        display.close()
