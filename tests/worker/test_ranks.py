"""Trials of two ranks: how they train together, and how one that fails, hangs or stays away ends them all."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from mnist_trials.config import Mesh, load
from mnist_trials.errors import TrialError
from mnist_trials.events import CheckpointSaved, Event, Notice, TrialExited, TrialStarted, WorkersExited
from mnist_trials.plugin import WorkerSpec, get_plugins
from mnist_trials.records import ErrorInfo, Outcome, Slot
from mnist_trials.worker.plain import plain_spec
from mnist_trials.worker.setup import layout_of
from tests.worker.conftest import SpecMaker

DEADLINE = 120.0

TRAIN = """
import os, sys, time
import mnist_trials as mt
from model import Tiny

print("my place is", os.environ["RANK"])
with mt.init() as context:
    trainer = mt.Trainer(Tiny(context), context)
    result = trainer.fit(max_length=mt.Batch(12))
    print("after", result.batches, result.outcome, flush=True)
    time.sleep(5)  # longer than the watchdog waits
"""

ON_RANK_1 = "if self.context.rank == 1: "


@dataclass
class Ended:
    """What a run of several ranks came to."""

    events: list[Event]
    log: str
    folder: Path

    def of(self, rank: int) -> list[Event]:
        return [e for e in self.events if e.rank == rank and not isinstance(e, WorkersExited)]

    @property
    def exit_codes(self) -> tuple[int | None, ...]:
        last = self.events[-1]
        assert isinstance(last, WorkersExited)
        return last.exit_codes

    def error(self, rank: int) -> ErrorInfo:
        (exited,) = [event for event in self.of(rank) if isinstance(event, TrialExited)]
        assert exited.error is not None
        return exited.error

    def printed(self, rank: int) -> str:
        return "".join(re.findall(rf"^\[rank={rank}\] (.*\n)", self.log, re.MULTILINE))


Run = Callable[..., Ended]


@pytest.fixture
def run(spec: SpecMaker) -> Run:
    """Runs a trial on two ranks by the launcher `local`; with keys of the config's `watchdog`, else as `spec`."""

    def start(entrypoint: object = "model:Tiny", watchdog: dict[str, int] | None = None, **hparams: Any) -> Ended:
        made = spec(entrypoint, **hparams)
        config = {**made.config, "watchdog": {"start_seconds": 60, "progress_seconds": 60, **(watchdog or {})}}
        ranks = [replace(made, rank=rank, size=2, slots=(slot(rank),), config=config) for rank in (0, 1)]
        return launched(ranks)

    return start


def slot(index: int) -> Slot:
    return Slot(id=f"cpu:{index}", backend="cpu", index=index, description="a CPU", threads=1)


def launched(specs: list[WorkerSpec]) -> Ended:
    launcher = get_plugins().find("launcher", "local").factory({})
    handle = launcher.create(specs)
    events: list[Event] = []
    handle.start(events.append)
    over = handle.join(DEADLINE)
    handle.kill()
    launcher.close()
    log = Path(specs[0].log_path).read_text()
    assert over, log
    return Ended(events, log, Path(specs[0].trial_dir))


@pytest.mark.slow
def test_a_command_behind_the_launch_layer_trains_on_every_rank_and_rank_0_tells(run: Run, project: Path) -> None:
    (project / "train.py").write_text(TRAIN)
    layer = ["python3", "-m", "mnist_trials.launch.torch_distributed", "--nnodes", "3", "--"]
    ended = run([*layer, "python3", "train.py"], watchdog={"progress_seconds": 3})
    assert ended.exit_codes == (0, 0), ended.log
    for rank in (0, 1):
        assert ended.printed(rank) == f"my place is {rank}\nafter 12 completed\n"
        assert ended.of(rank)[-1] == TrialExited(trial_id=2, run=3, rank=rank, outcome=Outcome.COMPLETED, batches=12)
    kinds = [type(event) for event in ended.of(0)]
    assert TrialStarted in kinds
    assert CheckpointSaved in kinds
    assert {type(event) for event in ended.of(1)} <= {Notice, TrialExited}
    notices = [event.message for event in ended.of(0) if isinstance(event, Notice)]
    assert sum("`--nnodes 3` have no effect in an experiment" in notice for notice in notices) == 1


def test_an_exception_of_one_rank_ends_all_and_is_the_only_one_shown(run: Run) -> None:
    ended = run(fail_at=3, fail_by=f"{ON_RANK_1}raise ValueError('mine')")
    assert ended.exit_codes == (-9, 1)
    error = ended.error(1)
    assert (error.type, error.message, error.batches) == ("ValueError", "mine", 3)
    assert not any(isinstance(event, TrialExited) for event in ended.of(0))
    assert ended.printed(0) == ""
    assert ended.printed(1).endswith("ValueError: mine\n")


def test_a_rank_that_hangs_is_named_after_every_rank_has_shown_its_stacks(run: Run) -> None:
    ended = run(watchdog={"progress_seconds": 2}, fail_at=3, fail_by=f"import time\n{ON_RANK_1}time.sleep(600)")
    assert ended.exit_codes[1] == 1
    error = ended.error(1)
    assert (error.type, error.batches, error.retryable) == ("Stuck", 3, True)
    assert re.fullmatch(
        r"rank 1 of 2 did nothing for 2 s: it is in <module> \(<string>:2\)\. The log has the stacks of every rank\.",
        error.message,
    )
    assert "in train_batch" in error.traceback
    for rank in (0, 1):
        assert f"Stuck: rank {rank} of 2 did nothing for 2 s" in ended.printed(rank)
        assert "(most recent call first)" in ended.printed(rank)
    assert re.search(r'model\.py", line \d+ in train_batch', ended.printed(1))
    assert re.search(r'File ".*", line \d+ in average_gradients', ended.printed(0))


@pytest.mark.slow
def test_a_rank_that_hangs_with_the_interpreters_lock_shows_its_stacks_too(run: Run) -> None:
    code = f"import ctypes\n{ON_RANK_1}ctypes.PyDLL(None).sleep(600)"
    ended = run(watchdog={"progress_seconds": 1}, fail_at=3, fail_by=code)
    assert 1 in ended.exit_codes
    assert ended.error(0).message.endswith("and waits for other ranks. The log has the stacks of every rank.")


@pytest.mark.slow
def test_ranks_that_stay_away_are_named(run: Run, project: Path) -> None:
    with (project / "model.py").open("a") as code:
        code.write("\nimport os, time\nif os.environ['RANK'] == '1':\n    time.sleep(600)\n")
    ended = run(watchdog={"start_seconds": 2})
    assert ended.exit_codes == (1, -9)
    error = ended.error(0)
    assert (error.type, error.retryable) == ("RanksMissing", True)
    assert re.match(
        r"Rank 1 of 2 did not come within 2 s \(watchdog\.start_seconds\)\. There: rank 0 \(.*, pid \d+\)",
        error.message,
    )


@pytest.mark.slow
def test_a_rank_that_ends_without_a_word_is_missed_by_the_others(run: Run) -> None:
    ended = run(fail_at=3, fail_by=f"import os\n{ON_RANK_1}os._exit(0)")
    assert ended.exit_codes == (1, 0)
    assert ended.error(0).message.startswith("another rank has ended without a word, and this one lost it: ")


def test_a_script_that_torchrun_starts_on_another_number_of_slots_than_its_mesh_has_is_refused(
    spec: SpecMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    source = {**spec().config, "mesh": {"data": 2, "tensor": 2}, "resources": {"slots_per_trial": 4}, "backend": "cpu"}
    made, config = plain_spec({}, source, None, None)
    with pytest.raises(TrialError, match=r"The mesh \{data: 2, tensor: 2\} is for 4 slots, .* was started on 2\."):
        layout_of(made, config)


@pytest.mark.parametrize("size", [1, 4])
def test_a_mesh_arranges_ranks_and_means_nothing_to_a_single_process(spec: SpecMaker, size: int) -> None:
    source = {**spec().config, "mesh": {"data": 2, "tensor": 2}, "resources": {"slots_per_trial": 4}}
    made = replace(spec(), rank=size - 1, size=size, rendezvous="file:///meet")
    layout = layout_of(made, load(source).config)
    assert layout.mesh == (Mesh(data=2, tensor=2) if size == 4 else Mesh(data=1, tensor=1))
    assert (layout.size, layout.rendezvous, layout.start_seconds) == (size, "file:///meet", 300.0)
