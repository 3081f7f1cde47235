"""The controller is killed at every point that matters; what goes on afterwards ends as if nothing had happened."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mnist_trials.errors import StoreError
from mnist_trials.plugin.processes import group_members
from mnist_trials.records import ExperimentState
from mnist_trials.testing.faults import fault_points

AROUND_EVENTS = (
    "controller.before_transaction",
    "controller.before_commit",
    "controller.after_commit",
    "controller.after_acting",
)
BEFORE_STARTS = "controller.before_start"

# The steps of a trial of 4 batches: 1 begin, 2 launch, 3 launched, 4 started, 5 data set, 6 progress, 7 and 8 metrics,
# 9 validation, 10 checkpoint, 11 and 12 metrics, 13 validation, 14 checkpoint, 15 exited, 16 gone, 17 finish.
HITS = (1, 2, 3, 5, 9, 10, 14, 15, 16, 17)
QUICK = (10, 16)


def test_these_are_all_the_points_there_are() -> None:
    assert sorted(name for name in fault_points() if name.startswith("controller.")) == sorted(
        (*AROUND_EVENTS, BEFORE_STARTS)
    )


def cases() -> list[Any]:
    every = [(point, hit) for point in AROUND_EVENTS for hit in HITS] + [(BEFORE_STARTS, 1)]
    return [
        pytest.param(point, hit, marks=[] if hit in QUICK or point == BEFORE_STARTS else [pytest.mark.slow])
        for point, hit in every
    ]


@pytest.mark.parametrize(("point", "hit"), cases())
def test_killed_at_any_point_it_goes_on_as_if_nothing_had_happened(lab: Any, point: str, hit: int) -> None:
    undisturbed = lab.trial(length=4)
    experiment_id = lab.submit(lab.config(length=4, launcher="local"))
    first = lab.start(experiment_id, f"{point}:kill:{hit}")
    first.communicate(timeout=60)
    assert first.returncode == -signal.SIGKILL
    summary = lab.finish(lab.start(experiment_id))
    assert summary["state"] == "COMPLETED"
    (trial,) = summary["trials"]
    assert (trial["state"], trial["batches"], trial["restarts"]) == ("COMPLETED", 4, 0)
    assert lab.values(experiment_id) == lab.values(1)
    assert summary["best"]["value"] == undisturbed["best"]["value"]
    check_that_nothing_is_left(lab, experiment_id)


def check_that_nothing_is_left(lab: Any, experiment_id: int) -> None:
    with lab.reader() as reader:
        assert reader.open_runs(experiment_id) == []
        stored = sorted(row.uuid for row in reader.checkpoints(experiment_id))
        assert sorted(path.name for path in lab.files(experiment_id).checkpoints.iterdir()) == stored
        told = [row for row in reader.decisions(experiment_id) if row.event == "validation_completed"]
        assert [row.units for row in told] == [2, 4]
        for run in reader.runs(experiment_id, 1):
            assert not any(group_members(process.pid) for process in run.processes)


@pytest.mark.parametrize("action", ["raise", "enospc"])
@pytest.mark.parametrize(("point", "hit"), [("controller.before_commit", 10), ("controller.before_start", 1)])
def test_an_error_of_the_disk_ends_the_workers_is_told_and_can_be_gone_on_from(
    lab: Any, monkeypatch: pytest.MonkeyPatch, point: str, hit: int, action: str
) -> None:
    lab.trial(length=4)
    experiment_id = lab.submit(lab.config(length=4))
    monkeypatch.setattr("mnist_trials.testing.faults._hits", Counter())
    monkeypatch.setenv("MNIST_TRIALS_FAULT", f"{point}:{action}:{hit}")
    with pytest.raises(StoreError, match=f"cannot go on.*activate {experiment_id}"):
        lab.run(experiment_id)
    monkeypatch.delenv("MNIST_TRIALS_FAULT")
    with lab.reader() as reader:
        assert reader.experiment(experiment_id).state is ExperimentState.ACTIVE
    assert lab.run(experiment_id)["state"] == "COMPLETED"
    assert lab.values(experiment_id) == lab.values(1)


def test_workers_of_a_killed_controller_are_ended_before_anything_goes_on(lab: Any) -> None:
    experiment_id = lab.submit(lab.config(launcher="local", do="hold", at=3, in_runs=[1]))
    first = lab.start(experiment_id)
    lab.wait_until_holding(experiment_id)
    first.kill()
    first.communicate(timeout=60)
    with lab.reader() as reader:
        (run,) = reader.runs(experiment_id, 1)
    summary = lab.finish(lab.start(experiment_id))
    assert summary["state"] == "COMPLETED"
    assert group_members(run.processes[0].pid) == []
    assert "run 1 was lost with its controller; it goes on from batch 2" in lab.notices(experiment_id)


def test_a_checkpoint_that_was_written_and_not_stored_is_removed(lab: Any) -> None:
    experiment_id = lab.submit(lab.config(length=4))
    lab.run(experiment_id)
    second = lab.submit(lab.config(length=4))
    folder = Path(lab.files(second).checkpoints)
    for name in ("7b0d9a0e-1111-4222-8333-444455556666", ".tmp-half"):
        (folder / name).mkdir(parents=True)
        (folder / name / "manifest.json").write_text("{}")
    lab.run(second)
    check_that_nothing_is_left(lab, second)


def test_what_a_killed_worker_had_half_saved_is_removed_in_the_end(lab: Any) -> None:
    assert lab.trial(length=4, launcher="local", do="kill_in_saving", at=3, in_runs=[1])["state"] == "COMPLETED"
    check_that_nothing_is_left(lab, 1)


def test_a_second_controller_is_refused_while_the_first_is_at_work(lab: Any) -> None:
    experiment_id = lab.submit(lab.config(launcher="local", do="hold", at=1))
    first = lab.start(experiment_id)
    lab.wait_until_holding(experiment_id)
    second = lab.start(experiment_id)
    _, err = second.communicate(timeout=60)
    assert f"Experiment {experiment_id} is already being run by process {first.pid}" in err
    os.kill(first.pid, signal.SIGTERM)
    assert lab.finish(first)["state"] == "PAUSED"


def test_a_forked_child_does_not_keep_the_lock_of_a_controller_that_died(lab: Any) -> None:
    from mnist_trials.experiment.lock import controller_lock, is_locked

    path = lab.files(1).lock
    to_child, from_child = os.pipe(), os.pipe()
    with controller_lock(path, 1):
        child = os.fork()
        if child == 0:
            os.close(to_child[1])
            os.write(from_child[1], b"x")
            os.read(to_child[0], 1)  # until the test is over
            os._exit(0)
        os.read(from_child[0], 1)
        assert is_locked(path)
    try:
        assert not is_locked(path)
    finally:
        for descriptor in (*to_child, *from_child):
            os.close(descriptor)
        os.waitpid(child, 0)


def limited(code: str) -> str:
    """Run `code` where no file can be written beyond the limit it sets by `limit(bytes)`; returns what it prints."""
    head = """
        import resource
        def limit(size):
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    """
    text = textwrap.dedent(head) + textwrap.dedent(code)
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True, timeout=60).stdout


def test_a_store_that_becomes_full_is_told_with_what_to_do_and_can_be_gone_on_from(lab: Any) -> None:
    lab.trial(length=40)
    experiment_id = lab.submit(lab.config(length=40))
    told = limited(
        f"""
        import importlib
        from pathlib import Path
        from mnist_trials.errors import StoreError
        from mnist_trials.experiment.life import take_charge
        follower = importlib.import_module("recording_logger").Recording(lambda event: limit(4096))
        try:
            take_charge(Path({str(lab.home)!r}), {experiment_id}, [follower], target="fake_worker:run")
        except StoreError as error:
            print(error.exit_status, error)
        """
    )
    assert told.startswith("1 The controller cannot go on: The store ")
    assert "disk is full" in told
    assert f"`mnist-trials activate {experiment_id}` goes on" in told
    assert lab.run(experiment_id)["state"] == "COMPLETED"
    assert lab.values(experiment_id) == lab.values(1)


def test_the_lock_can_be_taken_on_a_full_disk_so_that_deleting_makes_room(lab: Any) -> None:
    told = limited(
        f"""
        from pathlib import Path
        from mnist_trials.experiment.lock import controller_lock, is_locked
        path = Path({str(lab.files(1).lock)!r})
        limit(0)
        with controller_lock(path, 1):
            print(is_locked(path))
        """
    )
    assert told == "True\n"


def test_a_store_begun_anew_in_an_old_home_takes_no_old_checkpoints(lab: Any) -> None:
    lab.trial()
    saved = sorted(lab.files(1).checkpoints.rglob("*"))
    for file in lab.home.glob("store.sqlite*"):
        file.unlink()
    summary = lab.trial()
    assert summary["experiment_id"] == 2
    assert sorted(lab.files(1).checkpoints.rglob("*")) == saved
