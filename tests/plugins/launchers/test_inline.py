"""The launcher `inline`: the suite, debugging, and that the process is afterwards as it was."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mnist_trials.errors import PluginError
from mnist_trials.events import Event, GoOn, Notice, TrialExited, TrialHeld, WorkersExited, WorkersLaunched
from mnist_trials.plugin import WorkerSpec, get_plugins
from mnist_trials.records import Outcome
from mnist_trials.testing import LauncherSuite
from mnist_trials.testing.launcher import DEADLINE, Run, worker_specs

DEBUGGED = """
import sys
from pathlib import Path
from mnist_trials.plugin import get_plugins
from mnist_trials.testing.launcher import worker_specs

(spec,) = worker_specs(Path(sys.argv[1]), "")
Path(spec.context_dir, "debugged.py").write_text('''
def run(spec, channel):
    secret = "nobody knows"
    breakpoint()
    return 7
''')
from dataclasses import replace
spec = replace(spec, target="debugged:run")
sys.path.insert(0, spec.context_dir)
get_plugins().find("launcher", "inline").factory({}).create([spec]).start(print)
"""


class TestInline(LauncherSuite):
    plugin = "inline"
    in_process = True
    several_ranks = False


def run(spec: WorkerSpec, hear: Callable[[Event], None] = lambda event: None) -> list[Event]:
    """Run it in this very thread; everything it delivered."""
    events: list[Event] = []

    def deliver(event: Event) -> None:
        events.append(event)
        hear(event)

    get_plugins().find("launcher", "inline").factory({}).create([spec]).start(deliver)
    return events


def script(directory: Path, code: str, *command: str) -> WorkerSpec:
    """The spec of a command entrypoint; `code` is its `script.py`."""
    (spec,) = worker_specs(directory, "")
    Path(spec.context_dir, "script.py").write_text(code)
    config = {"name": "x", "entrypoint": list(command), "searcher": {"name": "single", "metric": "loss"}}
    return replace(spec, config=config, target="mnist_trials.worker.main:run")


def exit_codes(events: list[Event]) -> tuple[int | None, ...]:
    assert isinstance(events[-1], WorkersExited)
    return events[-1].exit_codes


def test_it_takes_no_options() -> None:
    with pytest.raises(PluginError, match="The launcher 'inline' does not take 'pdb'"):
        get_plugins().find("launcher", "inline").factory({"pdb": True})


def test_what_only_base_exception_catches_ends_the_trial_and_not_the_controller(tmp_path: Path) -> None:
    spec = script(tmp_path, "import asyncio\nraise asyncio.CancelledError", "python3", "script.py")
    assert exit_codes(run(spec)) == (1,)


def test_it_runs_one_rank_only(tmp_path: Path) -> None:
    handle = get_plugins().find("launcher", "inline").factory({}).create(worker_specs(tmp_path, "waits", size=2))
    events: list[Event] = []
    handle.start(events.append)
    reason = "the launcher 'inline' runs one rank, not 2; use `launcher: local`"
    assert events == [WorkersExited(trial_id=2, run=3, exit_codes=(None, None), reason=reason)]


def test_the_debugger_reaches_the_trial(tmp_path: Path) -> None:
    outcome = subprocess.run(
        [sys.executable, "-c", DEBUGGED, str(tmp_path)],
        input="p secret.upper()\nc\n",
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=True,
    )
    assert "'NOBODY KNOWS'" in outcome.stdout
    assert "exit_codes=(7,)" in outcome.stdout
    assert "'NOBODY KNOWS'" in (tmp_path / "trial" / "log.txt").read_text()


def test_the_debugger_reaches_the_trial_on_a_terminal(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", DEBUGGED, str(tmp_path)], stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    os.write(ours, b"p secret.upper()\nc\n")
    heard = b""
    try:
        while piece := os.read(ours, 65536):
            heard += piece
    except OSError:  # a terminal without another end
        os.close(ours)
    assert process.wait(DEADLINE) == 0
    assert b"'NOBODY KNOWS'" in heard
    assert b"exit_codes=(7,)" in heard


def test_the_process_is_afterwards_as_it_was(tmp_path: Path) -> None:
    code = """
import os, signal, sys
import helper
sys.path.append("somewhere")
os.environ["LEFT_BEHIND"] = "yes"
os.environ.pop("PATH")
os.chdir("/")
signal.signal(signal.SIGTERM, signal.SIG_IGN)
sys.stdout = None
"""
    spec = script(tmp_path, code, "python3", "script.py")
    Path(spec.context_dir, "helper.py").touch()
    before = (os.getcwd(), dict(os.environ), list(sys.path), list(sys.argv), signal.getsignal(signal.SIGTERM))
    streams = (sys.stdout, sys.stderr)
    assert exit_codes(run(spec)) == (0,)
    assert before == (os.getcwd(), dict(os.environ), list(sys.path), list(sys.argv), signal.getsignal(signal.SIGTERM))
    assert streams == (sys.stdout, sys.stderr)
    assert "helper" not in sys.modules


@pytest.mark.parametrize(
    "command", [("python3", "script.py"), ("python", "-m", "script"), (sys.executable, "script.py")]
)
def test_a_script_runs_as_in_a_process_of_its_own(tmp_path: Path, command: tuple[str, ...]) -> None:
    code = "import os, sys; print(__name__, sys.argv[1:], os.path.basename(os.getcwd())); sys.exit(4)"
    spec = script(tmp_path, code, *command, "--epochs", "1")
    events = run(spec)
    assert [type(event) for event in events] == [WorkersLaunched, WorkersExited]
    assert exit_codes(events) == (4,)
    assert Path(spec.log_path).read_text() == "__main__ ['--epochs', '1'] context\n"


def test_a_script_that_says_why_it_exits_has_status_1(tmp_path: Path) -> None:
    spec = script(tmp_path, "import sys; sys.exit('no such thing')", "python3", "script.py")
    assert exit_codes(run(spec)) == (1,)
    assert Path(spec.log_path).read_text() == "no such thing\n"


def test_a_script_that_raises_tells_it_with_its_own_traceback(tmp_path: Path) -> None:
    spec = script(tmp_path, "def f():\n    1 / 0\nf()\n", "python3", "script.py")
    events = run(spec)
    exited = events[-2]
    assert isinstance(exited, TrialExited)
    assert exited.outcome is Outcome.FAILED
    assert exited.error is not None
    lines = exited.error.traceback.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert "script.py" in lines[1]
    assert lines[-1] == "ZeroDivisionError: division by zero"
    assert Path(spec.log_path).read_text() == exited.error.traceback


def test_other_commands_are_refused(tmp_path: Path) -> None:
    events = run(script(tmp_path, "", "bash", "run.sh"))
    exited = events[-2]
    assert isinstance(exited, TrialExited)
    assert exited.error is not None
    assert not exited.error.retryable
    assert "The launcher 'inline' cannot run 'bash run.sh'" in exited.error.message
    assert "`launcher: local`" in exited.error.message


@pytest.mark.parametrize(
    ("command", "message"),
    [(("python3", "tran.py"), "the script 'tran.py'"), (("python3", "-m", "a.b"), "the module 'a.b'")],
)
def test_a_script_that_is_not_there_is_named(tmp_path: Path, command: tuple[str, ...], message: str) -> None:
    exited = run(script(tmp_path, "", *command))[-2]
    assert isinstance(exited, TrialExited)
    assert exited.error is not None
    assert message in exited.error.message
    assert "Traceback" not in exited.error.traceback


def test_a_kill_from_the_same_thread_ends_the_run(tmp_path: Path) -> None:
    (spec,) = worker_specs(tmp_path, "waits")
    handle = get_plugins().find("launcher", "inline").factory({}).create([spec])
    events: list[Event] = []

    def deliver(event: Event) -> None:
        events.append(event)
        if isinstance(event, Notice):
            handle.kill()

    handle.start(deliver)
    assert exit_codes(events) == (-9,)


def test_ctrl_c_in_a_worker_does_not_end_the_controller(tmp_path: Path) -> None:
    (spec,) = worker_specs(tmp_path, "waits")

    def interrupt(event: Event) -> None:
        if isinstance(event, Notice):
            signal.raise_signal(signal.SIGINT)

    assert exit_codes(run(spec, interrupt)) == (130,)


def test_a_held_run_that_is_killed_ends(tmp_path: Path) -> None:
    (spec,) = worker_specs(tmp_path, "is_held", times=1)
    handle = get_plugins().find("launcher", "inline").factory({}).create([spec])
    events: list[Event] = []

    def deliver(event: Event) -> None:
        events.append(event)
        if isinstance(event, TrialHeld):
            handle.request(GoOn())
            handle.kill()

    handle.start(deliver)
    assert exit_codes(events) == (-9,)
    assert not any(isinstance(event, Notice) for event in events)


def test_a_held_run_that_nobody_answers_fails_rather_than_wait_for_ever(tmp_path: Path) -> None:
    (spec,) = worker_specs(tmp_path, "is_held", times=2)
    assert exit_codes(run(spec)) == (1,)
    assert "PluginError: The trial is held, but the controller" in Path(spec.log_path).read_text()


def test_an_answer_counts_once(tmp_path: Path) -> None:
    (spec,) = worker_specs(tmp_path, "is_held", times=2)
    last = Run(get_plugins().find("launcher", "inline").factory({}), [spec], GoOn(3)).start()
    assert last.end().exit_codes == (1,)
    assert last.messages == ["go on until 3; asked to stop: False"]
