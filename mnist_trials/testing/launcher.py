"""The tests that every launcher passes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, final

import pytest

from mnist_trials.events import (
    Event,
    GoOn,
    Notice,
    Request,
    StopRequest,
    TrialExited,
    TrialHeld,
    WorkersExited,
    WorkersLaunched,
)
from mnist_trials.plugin import Launcher, WorkerHandle, WorkerSpec, get_plugins
from mnist_trials.plugin.processes import read_stat
from mnist_trials.records import Outcome, Slot
from mnist_trials.testing.launcher_targets import target
from mnist_trials.testing.waiting import DEADLINE, wait_until


def worker_specs(directory: Path, name: str, *, size: int = 1, **hparams: Any) -> list[WorkerSpec]:
    """Specs, one per rank, of workers that do what the function `name` of `launcher_targets` does."""
    context = directory / "context"
    context.mkdir(exist_ok=True)
    return [
        WorkerSpec(
            experiment_id=1,
            trial_id=2,
            run=3,
            rank=rank,
            size=size,
            slots=(Slot(id=f"cpu:{rank}", backend="cpu", index=rank, description="a CPU", threads=1),),
            config={},
            hparams=hparams,
            seed=5,
            context_dir=str(context),
            trial_dir=str(directory / "trial"),
            log_path=str(directory / "trial" / "log.txt"),
            checkpoint_root=str(directory / "checkpoints"),
            environment={"LAUNCHER_SUITE": "spoken here"},
            target=target(name),
        )
        for rank in range(size)
    ]


@final
class Run:
    """One run under test: starts it in a thread (a launcher may work in there) and keeps what it delivers.

    Attributes:
        specs: those it was made from.
        answers: what its worker of rank 0 is told each time that it is held, in order, before `deliver` returns.
    """

    def __init__(self, launcher: Launcher, specs: list[WorkerSpec], *answers: Request) -> None:
        self.specs = specs
        self.handle: WorkerHandle = launcher.create(specs)
        self.events: list[Event] = []
        self.answers = list(answers)
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self.handle.start, args=(self._deliver,), daemon=True)

    def start(self) -> Run:
        """Start it."""
        self._thread.start()
        return self

    def wait_for(self, wanted: Callable[[list[Event]], bool]) -> None:
        """Wait until the events heard so far are as `wanted`."""
        with self._changed:
            assert self._changed.wait_for(lambda: wanted(self.events), DEADLINE), f"heard only {self.events[-5:]}"

    def wait_for_messages(self, count: int) -> list[str]:
        """Wait for so many notices; returns their texts."""
        self.wait_for(lambda events: sum(isinstance(event, Notice) for event in events) >= count)
        return self.messages

    def end(self) -> WorkersExited:
        """Wait for the end; returns the last event."""
        assert self.handle.join(DEADLINE)
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive()
        last = self.events[-1]
        assert isinstance(last, WorkersExited)
        assert [event for event in self.events if isinstance(event, WorkersExited)] == [last]
        return last

    @property
    def messages(self) -> list[str]:
        """The texts of all notices."""
        return [event.message for event in self.events if isinstance(event, Notice)]

    def _deliver(self, event: Event) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()
        if isinstance(event, TrialHeld) and event.rank == 0 and self.answers:
            self.handle.request(self.answers.pop(0))


def is_alive(pid: int) -> bool:
    """Whether process `pid` runs (a zombie does not)."""
    stat = read_stat(pid)
    return stat is not None and stat.alive


def _pids(spec: WorkerSpec) -> list[int]:
    pids: list[int] = json.loads(Path(spec.trial_dir, "pids").read_text(encoding="utf-8"))
    return pids


class LauncherSuite:
    """Subclass this in the tests of a launcher plugin, which must be installed.

        class TestLocal(LauncherSuite):
            plugin = "local"

    Some 70 small workers are started, some of them killed. The launcher's workers must see this machine's files.
    """

    plugin: ClassVar[str]
    """The plugin's name."""

    options: ClassVar[Mapping[str, Any]] = {}
    """What stands beside its name in the config."""

    in_process: ClassVar[bool] = False
    """Whether it works in the process that asks it, where no worker can be killed by itself."""

    several_ranks: ClassVar[bool] = True
    """Whether it can start more than one rank."""

    @pytest.fixture
    def launcher(self) -> Iterator[Launcher]:
        """The launcher under test."""
        launcher: Launcher = get_plugins().find("launcher", self.plugin).factory(self.options)
        yield launcher
        launcher.close()

    @pytest.fixture
    def processes(self) -> None:
        """For tests that need a worker of its own process."""
        if self.in_process:
            pytest.skip(f"the launcher '{self.plugin}' starts no process")

    def test_events_arrive_in_order_between_launch_and_exit(self, launcher: Launcher, tmp_path: Path) -> None:
        """`WorkersLaunched` is first, `WorkersExited` last, and what the worker says between them in its order."""
        run = Run(launcher, worker_specs(tmp_path, "counts", events=5, bytes=1)).start()
        assert run.end() == WorkersExited(trial_id=2, run=3, exit_codes=(0,))
        assert [type(event) for event in run.events] == [
            WorkersLaunched,
            *[Notice] * 5,
            TrialExited,
            WorkersExited,
        ]
        assert run.messages == ["0", "1", "2", "3", "4"]

    def test_a_burst_of_events_loses_none(self, launcher: Launcher, tmp_path: Path) -> None:
        """Far more than a pipe holds arrives whole and in order."""
        run = Run(launcher, worker_specs(tmp_path, "counts", events=3000, bytes=2000)).start()
        run.end()
        assert [message.rstrip(".") for message in run.messages] == [str(number) for number in range(3000)]

    def test_one_event_larger_than_a_pipe_arrives_whole(self, launcher: Launcher, tmp_path: Path) -> None:
        """An event has no greatest size."""
        run = Run(launcher, worker_specs(tmp_path, "counts", events=1, bytes=1_000_000)).start()
        run.end()
        assert run.messages == ["0".ljust(1_000_000, ".")]

    def test_the_worker_has_its_spec_its_directory_and_its_environment(
        self, launcher: Launcher, tmp_path: Path
    ) -> None:
        """The spec travels unchanged; the variables and directory are the worker's and not the controller's."""
        specs = worker_specs(tmp_path, "describes_itself", nested={"lr": 0.1, "layers": [1, 2]})
        run = Run(launcher, specs).start()
        run.end()
        told = json.loads(run.messages[0])
        assert WorkerSpec.from_json(told["spec"]) == specs[0]
        assert told["directory"] == specs[0].context_dir
        assert told["environment"] == specs[0].environment
        assert (told["pid"] == os.getpid()) is self.in_process
        assert "LAUNCHER_SUITE" not in os.environ
        assert os.getcwd() != specs[0].context_dir

    def test_a_stop_request_is_honoured(self, launcher: Launcher, tmp_path: Path) -> None:
        """A request reaches the worker, and what it says afterwards is delivered."""
        run = Run(launcher, worker_specs(tmp_path, "waits")).start()
        run.wait_for_messages(1)
        run.handle.request(StopRequest(Outcome.PAUSED, "because"))
        assert run.end().exit_codes == (0,)
        assert run.messages == ["waiting", "because"]
        assert run.events[-2] == TrialExited(trial_id=2, run=3, outcome=Outcome.PAUSED, batches=0)

    def test_a_held_worker_is_told_how_far_to_go_on_each_time(self, launcher: Launcher, tmp_path: Path) -> None:
        """Each answer comes once, in order, and is no request to stop."""
        run = Run(launcher, worker_specs(tmp_path, "is_held", times=3), GoOn(5), GoOn(70), GoOn()).start()
        assert run.end().exit_codes == (0,)
        assert run.messages == [f"go on until {until}; asked to stop: False" for until in (5, 70, None)]

    def test_a_held_worker_is_told_to_stop(self, launcher: Launcher, tmp_path: Path) -> None:
        """The answer is then the request to stop, with its outcome and its reason."""
        answers = (GoOn(5), StopRequest(Outcome.COMPLETED, "enough"))
        run = Run(launcher, worker_specs(tmp_path, "is_held", times=3), *answers).start()
        assert run.end().exit_codes == (0,)
        assert run.messages == ["go on until 5; asked to stop: False", "stop: enough"]
        assert run.events[-2] == TrialExited(trial_id=2, run=3, outcome=Outcome.COMPLETED, batches=0)

    def test_a_request_to_stop_that_came_before_answers_a_worker_that_is_held(
        self, launcher: Launcher, tmp_path: Path
    ) -> None:
        """It need not be said again."""
        run = Run(launcher, worker_specs(tmp_path, "waits_and_is_held", times=1)).start()
        run.wait_for_messages(1)
        run.handle.request(StopRequest(Outcome.PAUSED, "because"))
        assert run.end().exit_codes == (0,)
        assert run.messages == ["waiting", "stop: because"]

    @pytest.mark.usefixtures("processes")
    def test_a_held_worker_waits_until_it_is_answered(self, launcher: Launcher, tmp_path: Path) -> None:
        """The answer may come at any time and from any thread."""
        run = Run(launcher, worker_specs(tmp_path, "is_held", times=1)).start()
        run.wait_for(lambda events: any(isinstance(event, TrialHeld) for event in events))
        assert not run.handle.join(0.0)
        run.handle.request(GoOn(9))
        assert run.end().exit_codes == (0,)
        assert run.messages == ["go on until 9; asked to stop: False"]

    @pytest.mark.usefixtures("processes")
    def test_a_worker_that_is_killed_while_it_is_held_ends_with_all_it_started(
        self, launcher: Launcher, tmp_path: Path
    ) -> None:
        """As any other."""
        specs = worker_specs(tmp_path, "is_held_with_children", times=1)
        run = Run(launcher, specs).start()
        run.wait_for(lambda events: any(isinstance(event, TrialHeld) for event in events))
        run.handle.kill()
        assert run.end().exit_codes == (-9,)
        assert not any(map(is_alive, _pids(specs[0])))

    @pytest.mark.usefixtures("processes")
    def test_a_held_worker_ends_when_its_launchers_process_dies(self, tmp_path: Path) -> None:
        """Nobody would ever answer it."""
        (spec,) = worker_specs(tmp_path, "is_held_with_children", times=1)
        document = tmp_path / "spec.json"
        document.write_text(json.dumps(spec.to_json()), encoding="utf-8")
        code = "import sys; from mnist_trials.testing.launcher_targets import launch; launch(*sys.argv[1:])"
        command = [sys.executable, "-c", code, str(document), self.plugin, json.dumps(dict(self.options))]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:  # noqa: S603 - our own command
            watchdog = threading.Timer(DEADLINE, parent.kill)
            watchdog.start()
            assert parent.stdout is not None
            said = parent.stdout.readline()
            watchdog.cancel()
            family = _pids(spec)
            parent.kill()
        assert said == "held\n"
        wait_until(lambda: not any(map(is_alive, family)))  # else the worker outlives its launcher

    def test_a_run_that_goes_on_is_not_joined(self, launcher: Launcher, tmp_path: Path) -> None:
        """`join` is false while the worker works."""
        run = Run(launcher, worker_specs(tmp_path, "waits")).start()
        run.wait_for_messages(1)
        assert not run.handle.join(0.0)
        run.handle.kill()
        run.end()

    def test_what_comes_after_the_end_has_no_effect(self, launcher: Launcher, tmp_path: Path) -> None:
        """A request or a kill that comes too late changes nothing."""
        run = Run(launcher, worker_specs(tmp_path, "counts", events=0, bytes=0)).start()
        run.end()
        before = list(run.events)
        run.handle.request(StopRequest(Outcome.PAUSED))
        run.handle.kill()
        assert run.end() == before[-1]
        assert run.events == before

    def test_a_worker_that_raises_exits_with_status_1_and_its_traceback_is_logged(
        self, launcher: Launcher, tmp_path: Path
    ) -> None:
        """An exception is no business of the launcher's: it shows the status, and the log the traceback."""
        specs = worker_specs(tmp_path, "raises")
        run = Run(launcher, specs).start()
        assert run.end().exit_codes == (1,)
        assert run.messages == ["before"]
        assert Path(specs[0].log_path).read_text().endswith("RuntimeError: raised by the worker\n")

    def test_a_worker_that_exits_gives_its_status(self, launcher: Launcher, tmp_path: Path) -> None:
        """`sys.exit(3)` is status 3."""
        run = Run(launcher, worker_specs(tmp_path, "exits")).start()
        assert run.end() == WorkersExited(trial_id=2, run=3, exit_codes=(3,))
        assert run.messages == ["before"]

    def test_output_is_in_the_log_as_it_was_printed(self, launcher: Launcher, tmp_path: Path) -> None:
        """Every byte of both streams, an unfinished last line too."""
        text = "one\n\ttwo \N{SNOWMAN}\rthree"
        specs = worker_specs(tmp_path, "prints", text=text)
        Run(launcher, specs).start().end()
        assert Path(specs[0].log_path).read_bytes() == (text + text).encode()

    def test_a_second_run_goes_on_in_the_same_log(self, launcher: Launcher, tmp_path: Path) -> None:
        """A restart does not overwrite what was printed before it."""
        specs = worker_specs(tmp_path, "prints", text="again\n")
        for _ in range(2):
            Run(launcher, specs).start().end()
        assert Path(specs[0].log_path).read_text() == "again\n" * 4

    def test_a_worker_that_cannot_be_started_is_told_not_raised(self, launcher: Launcher, tmp_path: Path) -> None:
        """`WorkersExited` is then the only event, and its reason names what is missing."""
        specs = worker_specs(tmp_path, "waits")
        Path(specs[0].context_dir).rmdir()
        run = Run(launcher, specs).start()
        last = run.end()
        assert last.exit_codes == (None,)
        assert last.reason is not None
        assert specs[0].context_dir in last.reason
        assert run.events == [last]

    def test_a_run_killed_before_it_is_started_never_starts(self, launcher: Launcher, tmp_path: Path) -> None:
        """`kill` may come before `start`."""
        run = Run(launcher, worker_specs(tmp_path, "waits"))
        run.handle.kill()
        run.start()
        assert run.end().reason == "killed before it was started"
        assert run.messages == []

    def test_a_killed_worker_ends(self, launcher: Launcher, tmp_path: Path) -> None:
        """Its status is that of SIGKILL, and it has no last word."""
        run = Run(launcher, worker_specs(tmp_path, "waits")).start()
        run.wait_for_messages(1)
        run.handle.kill()
        assert run.end().exit_codes == (-9,)
        assert run.messages == ["waiting"]

    @pytest.mark.usefixtures("processes")
    def test_a_worker_that_the_system_kills_is_told_by_its_signal(self, launcher: Launcher, tmp_path: Path) -> None:
        """What it said before is delivered first."""
        run = Run(launcher, worker_specs(tmp_path, "dies")).start()
        assert run.end().exit_codes == (-9,)
        assert run.messages == ["before"]

    @pytest.mark.usefixtures("processes")
    def test_kill_leaves_no_process_behind(self, launcher: Launcher, tmp_path: Path) -> None:
        """Nor in a process group that a child has made for itself."""
        run = Run(launcher, worker_specs(tmp_path, "waits_with_children")).start()
        children = json.loads(run.wait_for_messages(2)[0])
        assert all(map(is_alive, children))
        run.handle.kill()
        run.end()
        assert not any(map(is_alive, children))

    @pytest.mark.usefixtures("processes")
    def test_a_worker_that_ends_well_leaves_no_process_behind(self, launcher: Launcher, tmp_path: Path) -> None:
        """What it started ends with it."""
        run = Run(launcher, worker_specs(tmp_path, "leaves_children")).start()
        assert run.end().exit_codes == (0,)
        assert not any(map(is_alive, json.loads(run.messages[0])))

    @pytest.mark.usefixtures("processes")
    def test_runs_beside_each_other_do_not_mix(self, launcher: Launcher, tmp_path: Path) -> None:
        """Events go to the run whose worker said them."""
        runs = []
        for number in range(3):
            directory = tmp_path / str(number)
            directory.mkdir()
            runs.append(Run(launcher, worker_specs(directory, "counts", events=100, bytes=number)).start())
        for number, run in enumerate(runs):
            assert run.end().exit_codes == (0,)
            assert run.messages == [str(i).ljust(number, ".") for i in range(100)]

    def test_every_rank_is_heard_and_marked_in_the_log(self, launcher: Launcher, tmp_path: Path) -> None:
        """Each line of the log says which rank printed it."""
        self._need_ranks()
        specs = worker_specs(tmp_path, "prints", size=2, text="hello\n")
        run = Run(launcher, specs).start()
        assert run.end().exit_codes == (0, 0)
        assert sorted(event.rank for event in run.events if isinstance(event, TrialExited)) == [0, 1]
        lines = Path(specs[0].log_path).read_text().splitlines()
        assert sorted(lines) == ["[rank=0] hello"] * 2 + ["[rank=1] hello"] * 2

    def test_a_rank_that_dies_ends_the_others(self, launcher: Launcher, tmp_path: Path) -> None:
        """They would wait for it for ever."""
        self._need_ranks()
        run = Run(launcher, worker_specs(tmp_path, "first_rank_dies", size=2)).start()
        assert run.end().exit_codes == (-9, -9)

    def test_a_rank_that_ends_with_an_error_ends_the_others(self, launcher: Launcher, tmp_path: Path) -> None:
        """Its status is told as it is, theirs is that of SIGKILL."""
        self._need_ranks()
        run = Run(launcher, worker_specs(tmp_path, "first_rank_exits", size=2)).start()
        assert run.end().exit_codes == (3, -9)

    def test_all_ranks_are_started_or_none(self, launcher: Launcher, tmp_path: Path) -> None:
        """One that cannot be started ends those before it, and the run was never launched."""
        self._need_ranks()
        first, second = worker_specs(tmp_path, "waits", size=2)
        run = Run(launcher, [first, replace(second, context_dir="/gone")]).start()
        last = run.end()
        assert last.exit_codes[1] is None
        assert last.reason is not None
        assert "rank 1" in last.reason
        assert not any(isinstance(event, WorkersLaunched) for event in run.events)

    def test_it_says_whether_a_run_can_have_several_ranks(self, launcher: Launcher) -> None:
        """Trials of several slots are refused at submission by it."""
        assert launcher.several_ranks is self.several_ranks

    def test_the_ranks_of_a_run_have_a_rendezvous_of_their_own(self, launcher: Launcher, tmp_path: Path) -> None:
        """It is the same for all of them, and no other run has it, the next one of the same trial included."""
        self._need_ranks()
        places: list[dict[str, Any]] = []
        for number in (1, 2):
            specs = [replace(spec, run=number) for spec in worker_specs(tmp_path, "tells_its_place", size=2)]
            run = Run(launcher, specs).start()
            assert run.end().exit_codes == (0, 0)
            told = {event.rank: json.loads(event.message) for event in run.events if isinstance(event, Notice)}
            assert [told[rank]["variables"]["RANK"] for rank in (0, 1)] == ["0", "1"]
            for name in ("WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
                assert told[0]["variables"][name] == told[1]["variables"][name]
            assert told[0]["rendezvous"] == told[1]["rendezvous"]
            places.append(told[0])
        assert places[0]["variables"]["WORLD_SIZE"] == "2"
        assert places[0]["rendezvous"]
        assert places[0]["rendezvous"] != places[1]["rendezvous"]

    def test_ranks_meet_at_their_rendezvous_and_by_torchruns_variables(
        self, launcher: Launcher, tmp_path: Path
    ) -> None:
        """The one is the runtime's, the others are for scripts that call `torch.distributed` themselves."""
        self._need_ranks()
        run = Run(launcher, worker_specs(tmp_path, "meets_the_others", size=2)).start()
        assert run.end().exit_codes == (0, 0), Path(run.specs[0].log_path).read_text()
        heard = [json.loads(message) for message in run.messages]
        assert [ranks for _, ranks in heard] == [[0, 1]] * 4
        assert [url for url, _ in heard].count("env") == 2

    @pytest.mark.usefixtures("processes")
    def test_one_rank_finds_its_place_in_torchruns_variables_too(self, launcher: Launcher, tmp_path: Path) -> None:
        """So that a script which relies on them runs on one slot as on several."""
        run = Run(launcher, worker_specs(tmp_path, "tells_its_place")).start()
        run.end()
        variables = json.loads(run.messages[0])["variables"]
        assert all(variables.values())
        assert (variables["RANK"], variables["WORLD_SIZE"], variables["LOCAL_RANK"]) == ("0", "1", "0")

    def test_every_rank_that_is_held_hears_the_one_answer(self, launcher: Launcher, tmp_path: Path) -> None:
        """A request is passed on to all ranks."""
        self._need_ranks()
        run = Run(launcher, worker_specs(tmp_path, "is_held", size=2, times=1), GoOn(5)).start()
        assert run.end().exit_codes == (0, 0)
        assert run.messages == ["go on until 5; asked to stop: False"] * 2

    def _need_ranks(self) -> None:
        if not self.several_ranks:
            pytest.skip(f"the launcher '{self.plugin}' starts one rank only")
