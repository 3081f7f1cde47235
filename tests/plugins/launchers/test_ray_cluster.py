"""The launcher `ray` on several nodes: code that travels, nodes that die, slots that are not free."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import mnist_trials
from mnist_trials.errors import PluginError
from mnist_trials.events import Notice, StopRequest, WorkersLaunched
from mnist_trials.plugin import Launcher, WorkerSpec, get_plugins
from mnist_trials.records import Outcome
from mnist_trials.testing.launcher import DEADLINE, Run, is_alive, worker_specs
from mnist_trials.testing.waiting import wait_until
from mnist_trials_plugins.launchers import _ray_crew
from tests.plugins.launchers.ray_cluster import ELSEWHERE, RayCluster

HERE = Path(__file__).parent
LOCAL = """
import sys
from mnist_trials.plugin import get_plugins
launcher = get_plugins().find("launcher", "ray").factory({})
launcher.slots("cpu", 1, 1)
print("started", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def make(on_ray: RayCluster) -> Iterator[Callable[..., Launcher]]:
    """Makes launchers for the cluster."""
    made: list[Launcher] = []

    def launcher(**options: object) -> Launcher:
        made.append(get_plugins().find("launcher", "ray").factory({"address": "auto", **options}))
        return made[-1]

    yield launcher
    for each in made:
        each.close()


def pids(run: Run) -> list[int]:
    (launched,) = [event for event in run.events if isinstance(event, WorkersLaunched)]
    return [process.pid for process in launched.processes]


def travelling(directory: Path) -> WorkerSpec:
    """A worker whose target is in its own context, and that tells where that is."""
    (spec,) = worker_specs(directory, "")
    Path(spec.context_dir, "mine.py").write_text(
        "import os, sys\n"
        "from mnist_trials.testing.launcher_targets import tell, waits\n"
        "def run(spec, channel):\n"
        "    print('from afar')\n"
        "    tell(spec, channel, os.getcwd())\n"
        "    tell(spec, channel, spec.trial_dir)\n"
        "    return waits(spec, channel)\n"
    )
    return replace(spec, target="mine:run", environment={"PYTHONPATH": "."})


@pytest.mark.slow
def test_code_is_sent_to_a_node_that_does_not_see_this_machines_files(
    on_ray: RayCluster, make: Callable[..., Launcher], tmp_path: Path
) -> None:
    launcher = make(cpus_per_slot=3)
    assert not launcher.leaves_machine
    with pytest.raises(PluginError, match=r"a trial takes a slot of 3 CPUs, but .* has 0: 127\.0\.0\.1 with 2 C"):
        launcher.slots("cpu", 1, 1)
    with on_ray.another(cpus=3):
        assert launcher.leaves_machine
        assert [slot.id for slot in launcher.slots("cpu", 5, 1)] == ["ray:0"]
        spec = travelling(tmp_path)
        folders = []
        for _ in range(2):
            run = Run(launcher, [spec]).start()
            run.wait_for(lambda _, run=run: "waiting" in run.messages)  # type: ignore[misc]
            context, trial = map(Path, run.messages[-3:-1])
            assert context != Path(spec.context_dir)
            assert trial != Path(spec.trial_dir)
            assert trial.is_dir()
            assert (context / "mine.py").read_bytes() == Path(spec.context_dir, "mine.py").read_bytes()
            run.handle.request(StopRequest(Outcome.PAUSED))
            assert run.end().exit_codes == (0,)
            assert not trial.exists()
            folders.append(context)
        assert folders[0] == folders[1], "it was sent twice"
        assert Path(spec.log_path).read_text() == "from afar\n" * 2


def test_the_loss_of_a_node_ends_all_ranks_and_is_told_with_the_nodes_name(
    on_ray: RayCluster, make: Callable[..., Launcher], tmp_path: Path
) -> None:
    launcher = make(cpus_per_slot=2)
    with on_ray.another(cpus=2) as node:
        run = Run(launcher, worker_specs(tmp_path, "waits", size=2)).start()
        run.wait_for(lambda _: run.messages.count("waiting") == 2)
        on_ray.kill(node)
        last = run.end()
        assert sorted(last.exit_codes, key=str) == [-9, None]
        assert last.reason is not None
        assert f"node {ELSEWHERE} (" in last.reason
        assert "lost" in last.reason
        wait_until(lambda: not any(map(is_alive, pids(run))))
    again = Run(make(cpus_per_slot=1), worker_specs(tmp_path, "counts", events=1, bytes=1)).start()
    assert again.end().exit_codes == (0,)


def test_a_run_that_waits_for_slots_says_so_and_can_be_called_off(
    make: Callable[..., Launcher], tmp_path: Path
) -> None:
    launcher = make(cpus_per_slot=2)
    holder = Run(launcher, worker_specs(tmp_path, "waits")).start()
    holder.wait_for(lambda _: "waiting" in holder.messages)
    waiting = [Run(launcher, worker_specs(tmp_path, "waits")).start() for _ in range(2)]
    for run in waiting:
        (said,) = run.wait_for_messages(1)
        assert said.startswith("waits for a slot of 2 CPUs until others end; the Ray cluster at 127.0.0.1:")
    waiting[0].handle.kill()
    waiting[1].handle.request(StopRequest(Outcome.PAUSED))
    assert waiting[0].end().reason == "killed before it was started"
    assert waiting[1].end().reason == "asked to stop before it was started"
    assert [type(event) for event in waiting[1].events[:-1]] == [Notice]
    holder.handle.kill()
    holder.end()


def test_what_stays_without_a_place_is_told_with_what_is_there(
    make: Callable[..., Launcher], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_ray_crew, "MISSING_SECONDS", 0.0)
    specs = [
        replace(spec, config={"resources": {"is_single_node": True}})
        for spec in worker_specs(tmp_path, "waits", size=3)
    ]
    last = Run(make(), specs).start().end()
    assert last.exit_codes == (None, None, None)
    assert last.reason == "3 slots of 1 CPU each cannot be had on one node; there: 127.0.0.1 with 2 CPUs"


def test_another_version_on_a_node_is_told(
    make: Callable[..., Launcher], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = mnist_trials.__version__
    monkeypatch.setattr(mnist_trials, "__version__", "99.0")
    reason = Run(make(), worker_specs(tmp_path, "waits")).start().end().reason
    assert reason is not None
    assert f"have mnist-trials {there}, this machine has 99.0; install the same version on all" in reason


def test_a_cluster_that_does_not_answer_is_an_error_that_says_what_to_do() -> None:
    launcher = get_plugins().find("launcher", "ray").factory({"address": "127.0.0.1:9"})
    with pytest.raises(PluginError, match=r"No Ray cluster answers at '127\.0\.0\.1:9': .*`ray start --head`"):
        launcher.slots("cpu", 1, 1)


def test_one_process_works_with_one_cluster(on_ray: RayCluster, make: Callable[..., Launcher]) -> None:
    make().slots("cpu", 1, 1)
    other = get_plugins().find("launcher", "ray").factory({"address": on_ray.address})
    with pytest.raises(PluginError, match="This process works with the Ray cluster at 127"):
        other.slots("cpu", 1, 1)


@pytest.mark.usefixtures("on_ray")
def test_a_cluster_of_its_own_ends_with_its_process_and_listens_on_loopback_only(tmp_path: Path) -> None:
    variables = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    with subprocess.Popen(
        [sys.executable, "-c", LOCAL], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=variables
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "started\n"
            family = descendants(process.pid)
            assert len(family) > 3
            assert {address for pid in family for address in listens(pid)} <= {"0100007F"}
        finally:
            process.kill()
    wait_until(lambda: not any(map(is_alive, family)))


def descendants(pid: int) -> list[int]:
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return children + [pid for child in children for pid in descendants(child)]


def listens(pid: int) -> set[str]:
    """The IPv4 addresses, as /proc writes them, on which a process listens."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            inodes.add(os.readlink(descriptor))
        except FileNotFoundError:
            continue
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {line[1].split(":")[0] for line in lines if line[3] == "0A" and f"socket:[{line[9]}]" in inodes}


@pytest.mark.slow
def test_a_detached_controller_is_a_job_on_this_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    script = (
        "import json, os, sys, time; from mnist_trials.plugin import get_plugins\n"
        "launcher = get_plugins().find('launcher', 'ray').factory({'address': 'auto'})\n"
        "print(launcher.detach(json.loads(sys.argv[1]), {'SAID': 'yes'})); launcher.close()"
    )
    cluster = RayCluster(dashboard=True)
    try:
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        written = tmp_path / "written"
        command = [sys.executable, "-c", f"import os; open({str(written)!r}, 'w').write(os.environ['SAID'])"]
        done = subprocess.run(
            [sys.executable, "-c", script, json.dumps(command)],
            capture_output=True, text=True, timeout=DEADLINE, check=False,
        )  # fmt: skip
        assert done.stdout.startswith("Ray job raysubmit_"), done.stderr
        wait_until(lambda: written.exists() and written.read_text() == "yes")
    finally:
        cluster.stop()
