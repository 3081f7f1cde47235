"""What people ask for: pause, activate, cancel, kill, delete; by command and by signal."""

from __future__ import annotations

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from mnist_trials.errors import UsageError
from mnist_trials.experiment import api
from mnist_trials.experiment.lock import controller_lock
from mnist_trials.plugin.processes import group_members
from mnist_trials.records import ExperimentState, Outcome, TrialState
from mnist_trials.testing.waiting import wait_until

DEADLINE = 60


def held(lab: Any, launcher: str = "local") -> tuple[int, Any]:
    """An experiment whose trial waits at batch 3, and its controller."""
    experiment_id = lab.submit(lab.config(launcher=launcher, do="hold", at=3, in_runs=[1]))
    process = lab.start(experiment_id)
    lab.wait_until_holding(experiment_id)
    return experiment_id, process


def check_that_it_ends_as_if_undisturbed(lab: Any, experiment_id: int) -> None:
    other = lab.submit(lab.config())
    lab.run(other)
    assert lab.values(experiment_id) == lab.values(other)


@pytest.mark.parametrize("launcher", ["inline", "local"])
@pytest.mark.parametrize("way", ["command", signal.SIGINT, signal.SIGTERM])
def test_a_pause_saves_the_state_and_activate_goes_on_from_it(lab: Any, launcher: str, way: Any) -> None:
    experiment_id, process = held(lab, launcher)
    if way == "command":
        api.request(experiment_id, "pause", home=lab.home)
    else:
        os.kill(process.pid, way)
    summary = lab.finish(process)
    assert (summary["state"], summary["trials"][0]["state"]) == ("PAUSED", "PAUSED")
    with lab.reader() as reader:
        assert reader.checkpoints(experiment_id)[-1].batches == 4
        assert reader.runs(experiment_id, 1)[0].outcome is Outcome.PAUSED
    plan = api.plan(experiment_id, home=lab.home)
    assert [(trial.action, trial.batches) for trial in plan.trials] == [("continue", 4)]
    assert "trial 1: go on from batch 4" in str(plan)
    summary = lab.finish(lab.start(experiment_id))
    assert (summary["state"], summary["trials"][0]["restarts"]) == ("COMPLETED", 0)
    check_that_it_ends_as_if_undisturbed(lab, experiment_id)


@pytest.mark.parametrize("launcher", ["inline", "local"])
def test_a_second_signal_kills_the_workers_and_the_latest_checkpoint_stays(lab: Any, launcher: str) -> None:
    experiment_id = lab.submit(lab.config(launcher=launcher, do="deaf", at=3, in_runs=[1]))
    process = lab.start(experiment_id)
    lab.wait_until_holding(experiment_id)
    process.send_signal(signal.SIGINT)
    wait_until((lab.files(experiment_id).trial(1) / "asked").exists)
    process.send_signal(signal.SIGINT)
    summary = lab.finish(process)
    assert (summary["state"], summary["trials"][0]["state"]) == ("PAUSED", "PAUSED")
    with lab.reader() as reader:
        assert [row.batches for row in reader.checkpoints(experiment_id)] == [2]
    assert lab.finish(lab.start(experiment_id))["trials"][0]["restarts"] == 0
    check_that_it_ends_as_if_undisturbed(lab, experiment_id)


def test_cancel_saves_and_ends(lab: Any) -> None:
    experiment_id, process = held(lab)
    api.request(experiment_id, "cancel", home=lab.home)
    summary = lab.finish(process)
    assert (summary["state"], summary["trials"][0]["state"]) == ("CANCELED", "CANCELED")
    with lab.reader() as reader:
        assert reader.checkpoints(experiment_id)[-1].batches == 4
        assert reader.experiment(experiment_id).message == "cancelled"


def test_kill_ends_at_once(lab: Any) -> None:
    experiment_id, process = held(lab)
    api.request(experiment_id, "kill", home=lab.home)
    summary = lab.finish(process)
    assert (summary["state"], summary["trials"][0]["state"]) == ("CANCELED", "CANCELED")
    with lab.reader() as reader:
        assert [row.batches for row in reader.checkpoints(experiment_id)] == [2]
        assert reader.experiment(experiment_id).message == "killed"


def test_kill_after_cancel_does_not_wait_for_the_saving(lab: Any) -> None:
    experiment_id = lab.submit(lab.config(launcher="local", do="deaf", at=3))
    process = lab.start(experiment_id)
    lab.wait_until_holding(experiment_id)
    api.request(experiment_id, "cancel", home=lab.home)
    wait_until((lab.files(experiment_id).trial(1) / "asked").exists)
    with lab.reader() as reader:
        assert reader.experiment(experiment_id).state is ExperimentState.STOPPING
    api.request(experiment_id, "kill", home=lab.home)
    assert lab.finish(process)["state"] == "CANCELED"


def test_a_paused_trial_has_come_as_far_as_its_checkpoint_though_it_reported_nothing_since(lab: Any) -> None:
    experiment_id = lab.submit(lab.config(launcher="local", do="hold", at=2, in_runs=[1], quiet=True))
    process = lab.start(experiment_id)
    lab.wait_until_holding(experiment_id)
    api.request(experiment_id, "pause", home=lab.home)
    lab.finish(process)
    with lab.reader() as reader:
        trial = reader.trial(experiment_id, 1)
        assert (trial.batches, trial.epochs, trial.records) == (3, 0.3, 12)
        assert reader.checkpoints(experiment_id)[-1].batches == 3


def test_activate_takes_a_pause_back_that_is_under_way(lab: Any) -> None:
    experiment_id = lab.submit(lab.config(launcher="local", do="deaf", at=3, in_runs=[1]))
    process = lab.start(experiment_id)
    lab.wait_until_holding(experiment_id)
    api.request(experiment_id, "pause", home=lab.home)
    wait_until((lab.files(experiment_id).trial(1) / "asked").exists)
    api.request(experiment_id, "activate", home=lab.home)
    wait_until(lambda: not waiting(lab, experiment_id))
    (lab.files(experiment_id).trial(1) / "go").touch()
    assert lab.finish(process)["state"] == "COMPLETED"
    with lab.reader() as reader:
        assert [run.outcome for run in reader.runs(experiment_id, 1)] == [Outcome.PAUSED, Outcome.COMPLETED]
    check_that_it_ends_as_if_undisturbed(lab, experiment_id)


def waiting(lab: Any, experiment_id: int) -> list[Any]:
    from mnist_trials.store import open_store

    with open_store(lab.home) as store:
        return store.waiting_commands(experiment_id)


@pytest.mark.parametrize(("command", "state"), [("pause", "PAUSED"), ("cancel", "CANCELED"), ("kill", "CANCELED")])
def test_without_a_controller_a_command_is_carried_out_at_once(lab: Any, command: Any, state: str) -> None:
    experiment_id, process = held(lab)
    process.kill()
    process.communicate(timeout=60)
    assert not api.is_alive(experiment_id, home=lab.home)
    api.request(experiment_id, command, home=lab.home)
    with lab.reader() as reader:
        summary = reader.summary(experiment_id)
        processes = reader.runs(experiment_id, 1)[0].processes
    assert (summary["state"], summary["trials"][0]["state"]) == (state, state)
    assert not any(group_members(process.pid) for process in processes)
    if command == "pause":
        assert lab.run(experiment_id)["state"] == "COMPLETED"
        check_that_it_ends_as_if_undisturbed(lab, experiment_id)


def test_a_cancel_that_was_cut_off_is_finished_by_activate(lab: Any) -> None:
    experiment_id = lab.submit(lab.config(launcher="local", do="deaf", at=3))
    process = lab.start(experiment_id)
    lab.wait_until_holding(experiment_id)
    api.request(experiment_id, "cancel", home=lab.home)
    wait_until((lab.files(experiment_id).trial(1) / "asked").exists)
    process.kill()
    process.communicate(timeout=60)
    assert "will be finished" in str(api.plan(experiment_id, home=lab.home))
    summary = lab.run(experiment_id)
    assert (summary["state"], summary["trials"][0]["state"]) == ("CANCELED", "CANCELED")


def test_a_command_for_an_earlier_controller_does_not_reach_the_next(lab: Any) -> None:
    experiment_id = lab.submit(lab.config())
    from mnist_trials.store import open_store

    with open_store(lab.home) as store, store.transaction() as transaction:
        transaction.add_command(experiment_id, "kill")
    assert lab.run(experiment_id)["state"] == "COMPLETED"


def test_what_has_ended_stays_as_it_is(lab: Any) -> None:
    before = lab.trial()
    assert lab.run(1) == before
    for command in ("pause", "activate", "cancel", "kill"):
        with pytest.raises(UsageError, match=rf"Experiment 1 has ended \(COMPLETED\); there is nothing to {command}"):
            api.request(1, command, home=lab.home)
    with pytest.raises(UsageError, match="has ended"):
        api.detach(1, home=lab.home)
    assert "nothing to do" in str(api.plan(1, home=lab.home))


def test_activate_without_a_controller_is_no_request(lab: Any) -> None:
    lab.submit()
    with pytest.raises(UsageError, match="no controller"):
        api.request(1, "activate", home=lab.home)


def test_delete_removes_checkpoints_files_and_rows(lab: Any) -> None:
    lab.trial()
    lab.trial()
    api.delete(1, home=lab.home)
    assert not lab.files(1).directory.exists()
    assert not lab.files(1).checkpoints.exists()
    with lab.reader() as reader:
        assert [row.id for row in reader.experiments()] == [2]
    with pytest.raises(UsageError, match="no experiment 1"):
        api.delete(1, home=lab.home)


def test_a_running_experiment_cannot_be_deleted(lab: Any) -> None:
    experiment_id, process = held(lab)
    with pytest.raises(UsageError, match="already being run"):
        api.delete(experiment_id, home=lab.home)
    api.request(experiment_id, "kill", home=lab.home)
    lab.finish(process)


def test_wait_ends_with_the_controller_or_at_its_timeout(lab: Any) -> None:
    experiment_id, process = held(lab)
    with pytest.raises(TimeoutError, match="still running"):
        api.wait(experiment_id, home=lab.home, timeout=0.01)
    (lab.files(experiment_id).trial(1) / "go").touch()
    assert api.wait(experiment_id, home=lab.home, timeout=60)["state"] == "COMPLETED"
    lab.finish(process)


def test_a_plan_says_what_would_be_lost_ended_and_removed(lab: Any) -> None:
    experiment_id, process = held(lab)
    assert "it is running" in str(api.plan(experiment_id, home=lab.home))
    process.send_signal(signal.SIGSTOP)
    (orphan := lab.files(experiment_id).checkpoints / "orphan").mkdir()
    process.kill()
    process.communicate(timeout=60)
    plan = api.plan(experiment_id, home=lab.home)
    (trial,) = plan.trials
    assert (trial.action, trial.batches, trial.lost_batches) == ("continue", 2, 1)
    assert plan.orphans == (orphan.name,)
    assert "(1 batches are trained again)" in str(plan)
    json.dumps(plan.to_json(), allow_nan=False)
    with lab.reader() as reader:
        assert reader.trial(experiment_id, 1).state is TrialState.RUNNING  # a plan changes nothing


def test_a_plan_for_a_new_experiment_is_to_ask_the_searcher(lab: Any) -> None:
    experiment_id = lab.submit()
    assert "ask the searcher" in str(api.plan(experiment_id, home=lab.home))


@pytest.mark.parametrize(("command", "state"), [("pause", "PAUSED"), ("cancel", "CANCELED"), ("kill", "CANCELED")])
def test_a_command_that_comes_as_the_controller_ends_is_carried_out_all_the_same(
    lab: Any, command: Any, state: str
) -> None:
    experiment_id = lab.submit()
    with ThreadPoolExecutor() as pool:
        with controller_lock(lab.files(experiment_id).lock, experiment_id):
            asked = pool.submit(api.request, experiment_id, command, home=lab.home)
            wait_until(lambda: waiting(lab, experiment_id))
        asked.result(DEADLINE)
    with lab.reader() as reader:
        assert reader.experiment(experiment_id).state == state


def test_activate_that_comes_as_the_controller_ends_says_that_nobody_heard(lab: Any) -> None:
    experiment_id = lab.submit()
    with ThreadPoolExecutor() as pool:
        with controller_lock(lab.files(experiment_id).lock, experiment_id):
            asked = pool.submit(api.request, experiment_id, "activate", home=lab.home)
            wait_until(lambda: waiting(lab, experiment_id))
        with pytest.raises(api.NoController):
            asked.result(DEADLINE)
