"""The launcher `local`: the suite, and what only processes can do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mnist_trials.errors import PluginError
from mnist_trials.events import Event, Notice, TrialExited, WorkersExited, WorkersLaunched
from mnist_trials.plugin import Launcher, WorkerSpec, get_plugins
from mnist_trials.plugin.processes import group_members, identify
from mnist_trials.testing import LauncherSuite
from mnist_trials.testing.launcher import DEADLINE, Run, is_alive, worker_specs
from mnist_trials.testing.waiting import wait_until

HERE = Path(__file__).parent


class TestLocal(LauncherSuite):
    plugin = "local"


@pytest.fixture
def launcher() -> Iterator[Launcher]:
    launcher: Launcher = get_plugins().find("launcher", "local").factory({})
    yield launcher
    launcher.close()


def specs(directory: Path, function: str, size: int = 1) -> list[WorkerSpec]:
    environment = {"PYTHONPATH": str(HERE)}
    return [
        replace(spec, target=f"targets:{function}", environment=environment)
        for spec in worker_specs(directory, "", size=size)
    ]


def family_of_a_killed_parent(spec: WorkerSpec, directory: Path) -> list[int]:
    """Have another process launch `spec`, wait for the pids that its worker writes, and SIGKILL that process."""
    document = directory / "spec.json"
    document.write_text(json.dumps(spec.to_json()))
    pids = Path(spec.trial_dir, "pids")
    with subprocess.Popen([sys.executable, str(HERE / "parent.py"), str(document)]) as parent:
        wait_until(pids.exists)
        family: list[int] = json.loads(pids.read_text())
        assert all(map(is_alive, family))
        parent.kill()
    return family


def test_it_takes_no_options() -> None:
    with pytest.raises(PluginError, match="The launcher 'local' does not take 'workers'"):
        get_plugins().find("launcher", "local").factory({"workers": 3})


def test_a_worker_leads_a_session_that_is_named_when_it_is_launched(launcher: Launcher, tmp_path: Path) -> None:
    run = Run(launcher, worker_specs(tmp_path, "waits")).start()
    run.wait_for_messages(1)
    launched = run.events[0]
    assert isinstance(launched, WorkersLaunched)
    (identity,) = launched.processes
    assert identity == identify(identity.pid)
    assert os.getsid(identity.pid) == os.getpgid(identity.pid) == identity.pid
    run.handle.kill()
    run.end()
    assert group_members(identity.pid) == []


@pytest.mark.parametrize("function", ["waits_with_a_family", "never_returns_to_python"])
def test_a_worker_ends_with_all_it_started_when_its_controller_is_killed(tmp_path: Path, function: str) -> None:
    family = family_of_a_killed_parent(specs(tmp_path, function)[0], tmp_path)
    wait_until(lambda: not any(map(is_alive, family)))


def test_a_command_that_never_connects_ends_when_its_controller_is_killed(tmp_path: Path) -> None:
    command = ["sh", "-c", f'sleep 600 & echo "[$$, $!]" > {tmp_path}/new && mv {tmp_path}/new trial/pids; wait']
    (spec,) = worker_specs(tmp_path, "")
    config = {"name": "x", "entrypoint": command, "searcher": {"name": "single", "metric": "loss"}}
    spec = replace(spec, config=config, context_dir=str(tmp_path), target="mnist_trials.worker.main:run")
    family = family_of_a_killed_parent(spec, tmp_path)
    wait_until(lambda: not any(map(is_alive, family)))


def test_a_worker_inherits_no_descriptor_but_its_own(launcher: Launcher, tmp_path: Path) -> None:
    others = open(tmp_path / "lock", "w")  # noqa: SIM115 - as a controller holds it
    os.set_inheritable(others.fileno(), True)
    with others:
        run = Run(launcher, specs(tmp_path, "lists_descriptors")).start()
        run.end()
    found = {link for link in json.loads(run.messages[0]).values() if not link.startswith(("pipe:", "/proc/"))}
    assert found <= {"/dev/null", ""}


def test_what_is_no_event_is_told_and_left_out(launcher: Launcher, tmp_path: Path) -> None:
    run = Run(launcher, specs(tmp_path, "talks_nonsense")).start()
    assert run.end().exit_codes == (0,)
    before, *complaints = run.messages
    assert before == "before"
    assert len(complaints) == 3
    assert all(message.startswith("rank 0 sent a line that is no event and was left out: ") for message in complaints)
    assert "no event is called 'Unheard'" in complaints[1]
    assert isinstance(run.events[-2], TrialExited)


def test_half_a_line_of_a_dead_worker_is_left_out(launcher: Launcher, tmp_path: Path) -> None:
    run = Run(launcher, specs(tmp_path, "dies_within_a_line")).start()
    assert run.end().exit_codes == (-9,)
    assert [type(event) for event in run.events] == [WorkersLaunched, Notice, WorkersExited]


def test_a_worker_that_closes_its_output_goes_on(launcher: Launcher, tmp_path: Path) -> None:
    (spec,) = specs(tmp_path, "closes_its_output")
    run = Run(launcher, [spec]).start()
    run.wait_for_messages(1)
    run.handle.kill()
    run.end()
    assert Path(spec.log_path).read_bytes() == b"last words"


def test_bytes_that_are_no_text_are_kept(launcher: Launcher, tmp_path: Path) -> None:
    (spec,) = specs(tmp_path, "prints_bytes")
    Run(launcher, [spec]).start().end()
    assert Path(spec.log_path).read_bytes() == b"\xff\xfe\0 half a line and the rest\n\xf0\x9f\x99\x82\r\nend"


def test_a_daemon_that_left_the_session_does_not_hold_up_the_end(launcher: Launcher, tmp_path: Path) -> None:
    run = Run(launcher, specs(tmp_path, "leaves_a_daemon")).start()
    assert run.end().exit_codes == (0,)
    os.kill(int(run.messages[0]), signal.SIGKILL)


def test_events_of_several_threads_do_not_mix(launcher: Launcher, tmp_path: Path) -> None:
    run = Run(launcher, specs(tmp_path, "emits_from_threads")).start()
    run.end()
    for name in "ab":
        heard = [message.rstrip(".") for message in run.messages if message.startswith(name)]
        assert heard == [f"{name}{number}" for number in range(200)]


def test_a_worker_whose_events_are_held_waits_and_loses_none(launcher: Launcher, tmp_path: Path) -> None:
    count = 3000
    handle = launcher.create(worker_specs(tmp_path, "counts", events=count, bytes=1000))
    heard: list[Event] = []

    def deliver(event: Event) -> None:
        heard.append(event)
        if len(heard) == 2:
            handle.hold_events(True)

    handle.start(deliver)
    wait_until(lambda: len(heard) >= 2)
    (beside := tmp_path / "beside").mkdir()
    Run(launcher, worker_specs(beside, "counts", events=count, bytes=1000)).start().end()
    assert len(heard) < count / 10
    assert not handle.join(0.0)
    handle.hold_events(False)
    assert handle.join(DEADLINE)
    messages = [event.message.rstrip(".") for event in heard if isinstance(event, Notice)]
    assert messages == [str(number) for number in range(count)]


def test_a_worker_whose_events_are_held_can_be_killed(launcher: Launcher, tmp_path: Path) -> None:
    run = Run(launcher, worker_specs(tmp_path, "counts", events=1_000_000, bytes=1000)).start()
    run.wait_for_messages(1)
    run.handle.hold_events(True)
    run.handle.kill()
    assert run.end().exit_codes == (-9,)
    run.handle.hold_events(False)


def test_an_interpreter_that_is_gone_is_told(
    launcher: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/gone/python")
    run = Run(launcher, worker_specs(tmp_path, "waits", size=2)).start()
    reason = "rank 0 could not be started: No such file or directory: /gone/python"
    assert run.end() == WorkersExited(trial_id=2, run=3, exit_codes=(None, None), reason=reason)


def test_a_rank_that_cannot_be_started_ends_those_before_it(launcher: Launcher, tmp_path: Path) -> None:
    first, second = worker_specs(tmp_path, "waits", size=2)
    run = Run(launcher, [first, replace(second, context_dir="/gone")]).start()
    reason = "rank 1 could not be started: No such file or directory: /gone"
    assert run.end() == WorkersExited(trial_id=2, run=3, exit_codes=(-9, None), reason=reason)
    assert not any(isinstance(event, WorkersLaunched) for event in run.events)


def test_a_launcher_that_was_only_asked_holds_no_descriptors() -> None:
    before = os.listdir("/proc/self/fd")
    launcher = get_plugins().find("launcher", "local").factory({})
    assert os.listdir("/proc/self/fd") == before
    launcher.close()


def test_ranks_meet_in_a_folder_whose_name_means_something_in_a_url(launcher: Launcher, tmp_path: Path) -> None:
    folder = tmp_path / "50%41 #1?"
    folder.mkdir()
    made = worker_specs(folder, "tells_its_place", size=2)
    run = Run(launcher, made).start()
    run.end()
    assert json.loads(run.messages[0])["rendezvous"].endswith("/50%2541%20%231%3F/trial/rendezvous-3")


def test_the_file_that_ranks_met_by_is_gone_with_them(launcher: Launcher, tmp_path: Path) -> None:
    made = worker_specs(tmp_path, "tells_its_place", size=2)
    leftover = Path(made[0].trial_dir, "rendezvous-3")
    leftover.parent.mkdir()
    leftover.touch()  # of a run that ended with the machine
    run = Run(launcher, made).start()
    run.end()
    assert json.loads(run.messages[0])["rendezvous"] == f"file://{leftover}"
    assert not leftover.exists()


def test_ranks_of_one_machine_speak_over_its_loopback_unless_it_is_said_otherwise(
    launcher: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "eth7")
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    run = Run(launcher, specs(tmp_path, "tells_interfaces", size=2)).start()
    run.end()
    assert run.messages == ["lo eth7"] * 2


def test_a_command_that_is_run_once_for_all_slots_is_no_rank(
    launcher: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RANK", raising=False)
    first, second = worker_specs(tmp_path, "tells_its_place", size=2)
    run = Run(launcher, [replace(first, size=1, slots=(*first.slots, *second.slots))]).start()
    run.end()
    assert json.loads(run.messages[0])["variables"]["RANK"] is None


NO_MORE_FILES = """
import os, resource, sys, threading
from pathlib import Path
from mnist_trials.events import StopRequest
from mnist_trials.plugin import get_plugins
from mnist_trials.records import Outcome
from mnist_trials.testing.launcher import Run, worker_specs

launcher = get_plugins().find("launcher", "local").factory({})
run = Run(launcher, worker_specs(Path(sys.argv[1]), "waits_with_children")).start()
run.wait_for_messages(2)
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
run.handle.request(StopRequest(Outcome.PAUSED))
os.waitid(os.P_PID, run.events[0].processes[0].pid, os.WEXITED | os.WNOWAIT)
for _ in range(2):  # by the second round the thread has seen the end
    seen = threading.Event()
    launcher._pump.call(seen.set)
    seen.wait()
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print(run.end().exit_codes)
"""


def test_an_end_is_seen_also_when_no_more_files_can_be_opened_just_then(tmp_path: Path) -> None:
    outcome = subprocess.run(
        [sys.executable, "-c", NO_MORE_FILES, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert (outcome.stdout, outcome.stderr) == ("(0,)\n", "")


def test_a_controller_that_raises_when_it_is_told_something_does_not_stop_the_launcher(
    launcher: Launcher, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    handle = launcher.create(worker_specs(tmp_path, "counts", events=2, bytes=1))
    heard: list[Event] = []

    def deliver(event: Event) -> None:
        heard.append(event)
        if isinstance(event, TrialExited):
            raise RuntimeError("no more of this")

    handle.start(deliver)
    assert handle.join(DEADLINE)
    assert isinstance(heard[-1], WorkersExited)
    assert "RuntimeError: no more of this" in capsys.readouterr().err


def test_a_spec_that_cannot_be_written_is_told(launcher: Launcher, tmp_path: Path) -> None:
    (spec,) = worker_specs(tmp_path, "waits")
    (tmp_path / "file").touch()
    run = Run(launcher, [replace(spec, trial_dir=str(tmp_path / "file"))]).start()
    assert "rank 0 could not be started: File exists" in str(run.end().reason)


def test_the_spec_is_not_for_other_people(launcher: Launcher, tmp_path: Path) -> None:
    (spec,) = worker_specs(tmp_path, "counts", events=0, bytes=0)
    Run(launcher, [spec]).start().end()
    assert Path(spec.trial_dir, "worker-rank0.json").stat().st_mode & 0o777 == 0o600


def test_a_log_that_cannot_be_written_is_told_once_and_the_trial_goes_on(launcher: Launcher, tmp_path: Path) -> None:
    (spec,) = worker_specs(tmp_path, "prints", text="lost\n" * 100_000)
    Path(spec.trial_dir).mkdir()
    Path(spec.log_path).symlink_to("/dev/full")
    run = Run(launcher, [spec]).start()
    assert run.end().exit_codes == (0,)
    assert run.messages == ["Output of the trial is lost, its log cannot be written: No space left on device"]


def test_a_run_of_a_closed_launcher_leaves_no_descriptor_open(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    launcher = get_plugins().find("launcher", "local").factory({})
    for _ in range(2):
        Run(launcher, worker_specs(tmp_path, "leaves_children")).start().end()
    launcher.close()
    assert len(os.listdir("/proc/self/fd")) == len(before)
