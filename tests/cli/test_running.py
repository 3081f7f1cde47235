"""`create`, `activate` and the commands that reach into a running experiment, as real processes."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

CREATE_KEYS = {"experiment_id", "name", "state", "dataset", "trials", "best", "wall_seconds"}
ENDLESS = (
    *("--config", "searcher.max_length={batches: 100000000}"),
    *("--config", "min_validation_period={batches: 1000}"),
    *("--config", "scheduling_unit=100000"),
)
DEADLINE = 120


@pytest.fixture
def endless(home: Path, project: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Starts a `create` of an experiment without an end, and returns once its trial trains."""
    processes: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "mnist_trials", "create", str(project), *ENDLESS],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert process.stdout is not None
        for line in process.stdout:
            if "trial 1.1 validation" in line:
                return process
        raise AssertionError(f"it ended before it trained: {process.communicate()}")

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_create_shows_what_happens_and_ends_with_a_summary(trained) -> None:
    assert trained.created.status == 0, trained.created.err
    assert trained.created.err == ""
    lines = trained.created.out.splitlines()
    assert lines[0] == f"experiment 1 (tiny); its logs are in {trained.home}/experiments/1"
    for start in ("trial 1.1 created: ", "trial 1.1 started on ", "trial 1.1 batch 2/8 ", "trial 1.1 validation at "):
        assert any(line.startswith(start) for line in lines), start
    assert "Experiment 1 (tiny) COMPLETED, running time " in trained.created.out
    assert f"  mnist-trials --home {trained.home} evaluate " in trained.created.out


def test_what_create_did_is_in_the_store_and_in_the_logs(cli, trained) -> None:
    listed = cli("list", "--json", "--home", trained.home).document
    assert [(row["experiment_id"], row["state"]) for row in listed] == [(1, "COMPLETED")]
    assert "validating" in cli("logs", "1", "--follow", "--home", trained.home).out


def test_create_as_json_keeps_everything_else_off_stdout(program, project: Path) -> None:
    outcome = program("create", project, "--json", "--launcher", "inline")  # the trial prints in this very process
    assert outcome.status == 0, outcome.err
    assert set(outcome.document) >= CREATE_KEYS
    assert "validating" in outcome.err
    assert "trial 1.1 validation" in outcome.err
    assert program("describe", "1", "--json").document == outcome.document


def test_a_trial_that_raises_ends_in_status_1_with_the_users_traceback_last(program, project: Path) -> None:
    outcome = program("create", project, "--config", "hyperparameters.fault=raise")
    assert outcome.status == 1
    before, _, shown = outcome.err.partition("Traceback (most recent call last):")
    assert "trial 1.1 ended in error at batch " in before
    assert "ArithmeticError: the third batch is cursed" in before
    assert "`mnist-trials logs 1.1` shows all that it printed." in before
    assert 'tiny.py", line ' in shown
    assert "mnist_trials/" not in shown
    assert shown.endswith("ArithmeticError: the third batch is cursed\n")


def test_in_the_background_from_create_to_delete(program, project: Path, home: Path) -> None:
    outcome = program("create", project, "--detach", "--test", "--config", "searcher.metric=accuracy")
    assert outcome.status == 0, outcome.err
    assert outcome.out == "1\n"
    assert re.search(r"^warning: .*accuracy", outcome.err)
    assert "`mnist-trials wait 1`" in outcome.err

    waited = program("wait", "1", "--json")
    assert waited.status == 0, waited.err
    assert waited.document["state"] == "COMPLETED"

    assert list((home / "checkpoints" / "1").iterdir())
    assert program("delete", "1", "--yes", "--json").document == {"experiment_id": 1, "deleted": True}
    assert program("list", "--json").document == []
    assert not (home / "checkpoints" / "1").exists()
    assert not (home / "experiments" / "1").exists()


SEARCH = """
name: search
entrypoint: tiny:Tiny
hyperparameters: {global_batch_size: 16, width: {type: int, minval: 2, maxval: 9}, fault: none}
searcher: {name: asha, metric: validation_loss, max_length: {batches: 8}, num_rungs: 2, max_trials: 4, divisor: 2}
scheduling_unit: 2
"""


def test_a_search_is_told_in_a_few_lines_and_explained_afterwards(program, project: Path) -> None:
    project.write_text(SEARCH)
    outcome = program("create", project, "--launcher", "inline")
    assert outcome.status == 0, outcome.err
    lines = outcome.out.splitlines()
    assert sum(bool(re.match(r"trial 1\.\d started: width \d$", line)) for line in lines) == 4
    stopped = [line for line in lines if re.match(r"trial 1\.\d was stopped at rung 0 \(4 batches\)", line)]
    ended = [line for line in lines if re.match(r"trial 1\.\d completed at batch 8: validation_loss ", line)]
    assert len(stopped) + len(ended) == 4
    assert not [line for line in lines if "checkpoint at" in line or "validation at" in line]
    assert "\nbest trials:\n" in outcome.out
    told = program("decisions", "1").out
    assert all(line in told for line in stopped)
    assert "rungs:\n" in program("describe", "1").out


@pytest.mark.slow
def test_a_file_in_the_working_directory_is_never_taken_for_a_library(
    cli, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "queue.py").write_text("raise SystemExit('shadowed')")
    monkeypatch.chdir(tmp_path)
    outcome = cli("create", project, "--detach", "--test")
    assert outcome.status == 0, outcome.err
    assert cli("wait", 1).status == 0


def test_an_interrupt_pauses_and_activate_goes_on(endless, program) -> None:
    process = endless()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 130, err
    assert "interrupted: saving the state of every trial, then pausing" in out
    assert "Experiment 1 (tiny) PAUSED" in out
    assert "  mnist-trials activate 1\n" in out
    assert "Traceback" not in err

    assert "go on from batch " in program("activate", "1", "--dry-run").out
    assert program("activate", "1", "--detach").out.splitlines()[-1] == "1"
    assert program("cancel", "1").status == 0
    assert program("wait", "1").status == 3


@pytest.mark.slow
def test_a_running_experiment_holds_its_slot_until_it_is_killed(endless, program) -> None:
    process = endless()
    cores = [slot for slot in program("slots", "--json").document if slot["backend"] == "cpu"]
    assert [slot["trials"] for slot in cores] == [["1.1"]] * len(cores)
    refused = program("delete", "1", "--yes")
    assert refused.status == 2
    assert "Traceback" not in refused.err
    outcome = program("kill", "1")
    assert outcome.status == 0, outcome.err
    assert "`mnist-trials wait 1` waits" in outcome.out
    out, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 3, err
    assert "Experiment 1 (tiny) CANCELED" in out


@pytest.mark.slow
def test_a_reader_that_goes_away_does_not_end_the_experiment(program, project: Path, home: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "mnist_trials", "create", str(project)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline().startswith("experiment 1")
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(DEADLINE) == 0
    assert err == ""
    assert program("describe", "1", "--json").document["state"] == "COMPLETED"


@pytest.mark.parametrize("config", ["one trial", "a search"])
def test_on_a_terminal_a_bar_follows_the_trial(project: Path, home: Path, config: str) -> None:
    if config == "a search":
        project.write_text(SEARCH.replace("max_trials: 4", "max_trials: 1"))
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "mnist_trials", "create", str(project)],
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120", "OMP_NUM_THREADS": "1"},
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    while piece := _read(ours):
        shown += piece
    os.close(ours)
    assert process.wait(DEADLINE) == 0
    text = shown.decode()
    assert "━" in text
    assert re.search(r"Experiment 1 \((tiny|search)\) COMPLETED", text)
    assert ("% done; " in text) == (config == "a search")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # how Linux says that the other end is closed
        return b""
