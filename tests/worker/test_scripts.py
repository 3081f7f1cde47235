"""`mt.init()` in processes of their own: plain scripts, and the same scripts as command entrypoints."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from mnist_trials.events import (
    Event,
    GoOn,
    MetricsReported,
    Notice,
    Request,
    StopRequest,
    TrialExited,
    TrialHeld,
    TrialStarted,
    ValidationCompleted,
    WorkersExited,
)
from mnist_trials.plugin import WorkerSpec, get_plugins
from mnist_trials.records import Outcome
from tests.worker.conftest import SpecMaker

DEADLINE = 120.0

TRAIN = """
import mnist_trials as mt
from model import Tiny

with mt.init(config="const.yaml") as context:
    trainer = mt.Trainer(Tiny(context), context)
    result = trainer.fit(max_length=mt.Batch({batches}), reporting_period=mt.Batch(10))
    print("after", result.batches, result.outcome)
"""

TWICE = """
import os, subprocess, sys
import mnist_trials as mt

def try_again(how):
    try:
        with mt.init():
            print(how, "connected")
    except mt.UsageError as error:
        print(how, "refused:", error)

if __name__ == "__main__":
    with mt.init():
        try_again("again")
        print(flush=True)
        if os.fork() == 0:
            try_again("fork")
            sys.stdout.flush()
            os._exit(0)
        os.wait()
        subprocess.run([sys.executable, "-c", "import train; train.try_again('child')"], check=True)
"""


@contextmanager
def plain(project: Path, code: str) -> Iterator[subprocess.Popen[str]]:
    """Run `code` as a plain script."""
    (project / "train.py").write_text(code)
    environment = {**os.environ, "MNIST_TRIALS_HOME": str(project.parent / "home"), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "train.py"],
        cwd=project,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        watchdog = threading.Timer(DEADLINE, process.kill)
        watchdog.start()
        yield process
        watchdog.cancel()


def launch(
    spec: WorkerSpec, stop_at: type[Event] | None = None, when_held: Sequence[Request | signal.Signals] = ()
) -> tuple[list[Event], str]:
    """Run a worker by the launcher `local`; its events and its output. `when_held`: what it gets each time."""
    launcher = get_plugins().find("launcher", "local").factory({})
    handle = launcher.create([spec])
    events: list[Event] = []
    answers = list(when_held)

    def deliver(event: Event) -> None:
        events.append(event)
        if stop_at is not None and isinstance(event, stop_at):
            handle.request(StopRequest(Outcome.PAUSED, "enough"))
        if isinstance(event, TrialHeld):
            answer = answers.pop(0)
            if isinstance(answer, signal.Signals):
                (started,) = (event for event in events if isinstance(event, TrialStarted))
                os.kill(started.pid, answer)
            else:
                handle.request(answer)

    handle.start(deliver)
    assert handle.join(DEADLINE)
    launcher.close()
    return events, Path(spec.log_path).read_text()


def test_a_plain_script_trains_and_says_where_its_checkpoint_is(project: Path) -> None:
    with plain(project, TRAIN.format(batches=20)) as process:
        out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert re.search(r"^training    batch 10/20  epoch 1\.25  loss 0\.\d+$", out, re.MULTILINE)
    assert re.search(r"^validation  batch 20/20  epoch 2\.50  validation_loss 0\.\d+$", out, re.MULTILINE)
    checkpoint = Path(out.splitlines()[-1].removeprefix("Checkpoint: "))
    assert checkpoint.parent == project.parent / "home" / "scripts" / "train" / "checkpoints"
    assert (checkpoint / "manifest.json").is_file()


def test_the_first_ctrl_c_saves_and_the_script_exits_with_130(project: Path) -> None:
    with plain(project, TRAIN.format(batches=10_000_000)) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        assert any(line.startswith("training") for line in lines)
        process.send_signal(signal.SIGINT)
        rest = list(lines)
    assert process.returncode == 130
    assert "Interrupted: a checkpoint is saved after this batch. Ctrl-C again stops at once.\n" in rest
    assert any(line.startswith("after ") and line.endswith("paused\n") for line in rest)
    assert Path(rest[-1].strip().removeprefix("Checkpoint: "), "manifest.json").is_file()


def test_the_second_ctrl_c_interrupts_whatever_goes_on(project: Path) -> None:
    code = "import mnist_trials as mt, time\nwith mt.init():\n    print('in', flush=True)\n    time.sleep(600)"
    with plain(project, code) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "in\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "\n"
        process.send_signal(signal.SIGINT)
        process.communicate()
    assert process.returncode == -signal.SIGINT


def test_a_command_is_the_worker_itself(spec: SpecMaker, project: Path) -> None:
    (project / "train.py").write_text(TRAIN.format(batches=20))
    events, output = launch(spec(["python3", "train.py"]))
    assert events[-2] == TrialExited(trial_id=2, run=3, outcome=Outcome.COMPLETED, batches=20)
    assert events[-1] == WorkersExited(trial_id=2, run=3, exit_codes=(0,))
    assert output == "after 20 completed\n"


@pytest.mark.slow
def test_a_command_stops_when_it_is_asked_to(spec: SpecMaker, project: Path) -> None:
    (project / "train.py").write_text(TRAIN.format(batches=10_000_000))
    events, output = launch(spec(["sh", "-c", "python3 train.py; exit $?"]), stop_at=MetricsReported)
    exited = events[-2]
    assert isinstance(exited, TrialExited)
    assert exited.outcome is Outcome.PAUSED
    assert output == f"after {exited.batches} paused\n"


@pytest.mark.slow
def test_a_command_is_held_and_told_which_points_its_own_period_misses(spec: SpecMaker, project: Path) -> None:
    code = TRAIN.format(batches=20).replace("reporting_period", "validation_period=mt.Batch(7), reporting_period")
    (project / "train.py").write_text(code)
    held = replace(spec(["python3", "train.py"]), until=5, validate_at=(2, 7, 9))
    events, output = launch(held, when_held=[GoOn(8), GoOn(12), StopRequest(Outcome.STOPPED)])
    assert [event.batches for event in events if isinstance(event, TrialHeld)] == [5, 8, 12]
    assert [event.batches for event in events if isinstance(event, ValidationCompleted)] == [5, 7, 8, 12]
    notices = [event.message for event in events if isinstance(event, Notice)]
    assert [re.findall(r"\d+ batches \(judged at \d+ batches\)", notice) for notice in notices] == [
        ["2 batches (judged at 5 batches)"],
        ["9 batches (judged at 12 batches)"],
    ]
    exited = events[-2]
    assert isinstance(exited, TrialExited)
    assert (exited.outcome, exited.batches) == (Outcome.STOPPED, 12)
    assert output == "after 12 stopped\n"


@pytest.mark.slow
def test_a_worker_hears_a_signal_while_it_is_held(spec: SpecMaker) -> None:
    events, output = launch(replace(spec(), until=5), when_held=[signal.SIGINT])
    exited = events[-2]
    assert isinstance(exited, TrialExited)
    assert exited.error is not None
    assert (exited.error.type, exited.batches) == ("KeyboardInterrupt", 5)
    assert output.endswith("KeyboardInterrupt\n")


@pytest.mark.slow
def test_a_command_that_raises_shows_its_traceback_last(spec: SpecMaker, project: Path) -> None:
    (project / "train.py").write_text(TRAIN.format(batches=20))
    events, output = launch(spec(["python3", "train.py"], fail_at=3, fail_by="raise ValueError('mine')"))
    exited = events[-2]
    assert isinstance(exited, TrialExited)
    assert exited.error is not None
    assert (exited.outcome, exited.error.type, exited.error.batches) == (Outcome.FAILED, "ValueError", 3)
    assert events[-1] == WorkersExited(trial_id=2, run=3, exit_codes=(1,))
    assert output.endswith("ValueError: mine\n")


@pytest.mark.slow
def test_a_command_that_raises_after_its_block_has_failed(spec: SpecMaker, project: Path) -> None:
    (project / "train.py").write_text(TRAIN.format(batches=20) + "\n1 / 0")
    events, output = launch(spec(["python3", "train.py"]))
    exited = events[-2]
    assert isinstance(exited, TrialExited)
    assert exited.error is not None
    assert (exited.outcome, exited.error.type, exited.error.batches) == (Outcome.FAILED, "ZeroDivisionError", 20)
    assert output.startswith("after 20 completed\n")


@pytest.mark.slow
def test_a_thread_that_a_trial_left_running_does_not_keep_its_process(spec: SpecMaker) -> None:
    code = "import threading; threading.Thread(target=threading.Event().wait, name='forgotten').start()"
    events, output = launch(spec(fail_at=0, fail_by=code))
    assert events[-2] == TrialExited(trial_id=2, run=3, outcome=Outcome.COMPLETED, batches=20)
    assert events[-1] == WorkersExited(trial_id=2, run=3, exit_codes=(0,))
    assert output.endswith("The trial has ended, but not its threads forgotten: they are cut off.\n")


def test_one_process_of_a_trial_has_its_context(spec: SpecMaker, project: Path) -> None:
    (project / "train.py").write_text(TWICE.replace("mt.UsageError", "Exception"))
    events, output = launch(spec(["python3", "train.py"]))
    assert len([event for event in events if isinstance(event, TrialExited)]) == 1
    # By pattern, not by line: a Python that warns of forking writes into the same output meanwhile.
    refusals = re.findall(r"(again|fork|child) refused: (.*)", output)
    assert [who for who, _ in refusals] == ["again", "fork", "child"]
    assert "was taken already" in refusals[0][1]
    assert "has no connection of its own" in refusals[2][1]
    assert "connected" not in output


def test_a_command_that_does_not_exist_is_told(spec: SpecMaker) -> None:
    events, output = launch(spec(["pyton3", "train.py"]))
    exited = events[-2]
    assert isinstance(exited, TrialExited)
    assert exited.error is not None
    assert not exited.error.retryable
    assert exited.error.message == (
        "The entrypoint's command 'pyton3' cannot be run: No such file or directory. The whole command: pyton3 train.py"
    )
    assert output == f"mnist_trials.errors.TrialError: {exited.error.message}\n"


def test_a_command_without_a_context_tells_its_status_only(spec: SpecMaker) -> None:
    events, output = launch(spec(["sh", "-c", "echo hello; exit 5"]))
    assert not any(isinstance(event, TrialExited) for event in events)
    assert events[-1] == WorkersExited(trial_id=2, run=3, exit_codes=(5,))
    assert output == "hello\n"


def test_a_command_that_waits_for_all_its_children_is_not_held_up(spec: SpecMaker) -> None:
    code = "import os\ntry:\n    while True: os.wait()\nexcept ChildProcessError: print('none left')"
    events, output = launch(spec(["python3", "-c", code]))
    assert events[-1] == WorkersExited(trial_id=2, run=3, exit_codes=(0,))
    assert output == "none left\n"


@pytest.mark.parametrize("arguments", [[], ["spec"], ["a", "b", "c", "d"]])
def test_a_person_who_starts_a_worker_is_told_what_to_use(arguments: list[str]) -> None:
    outcome = subprocess.run(
        [sys.executable, "-m", "mnist_trials.worker", *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert outcome.returncode == 2
    assert outcome.stderr == "This starts a worker process and is meant for launchers. People use: mnist-trials\n"
