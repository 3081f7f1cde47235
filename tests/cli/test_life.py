"""`wait`, `pause`, `cancel`, `kill`, `delete`, `activate` on experiments that nobody runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mnist_trials.records import ExperimentState, TrialState
from mnist_trials.store import open_store
from mnist_trials.store.rows import TrialRow
from tests.cli.written_search import SINGLE


@pytest.fixture
def paused(stored: Path, trial_row: TrialRow) -> Path:
    """A home with a paused experiment, 3, whose trial was never started."""
    config = stored / "experiments" / "3"
    config.mkdir(parents=True)
    with open_store(stored) as store, store.transaction() as transaction:
        third = transaction.add_experiment("half", SINGLE, {})
        trial = replace(trial_row, experiment_id=third, state=TrialState.PAUSED, batches=0, latest_checkpoint=None)
        transaction.put_trial(replace(trial, best_checkpoint=None, best_metric=None, best_metrics={}))
        transaction.update_experiment(third, state=ExperimentState.PAUSED)
    return stored


def test_waiting_for_an_experiment_that_is_done_tells_its_result(cli, stored: Path) -> None:
    outcome = cli("wait", 1)
    assert outcome.status == 0
    assert "Experiment 1 (digits) COMPLETED" in outcome.out
    assert "  mnist-trials evaluate 11111111" in outcome.out
    assert outcome.err == ""


def test_waiting_for_an_experiment_that_failed_shows_the_users_traceback_last(cli, stored: Path) -> None:
    outcome = cli("wait", 2)
    assert outcome.status == 1
    assert "trial 2.1 ended in error at batch 12: ValueError: the layer does not fit" in outcome.err
    assert "trial 2.2 ended in error" in outcome.err
    assert outcome.err.count("Traceback") == 1
    assert outcome.err.index("`mnist-trials logs 2.1`") < outcome.err.index("Traceback")
    assert outcome.err.endswith("ValueError: the layer does not fit\n")


def test_waiting_as_json_prints_the_document_of_create(cli, stored: Path) -> None:
    outcome = cli("wait", 2, "--json")
    assert outcome.status == 1
    assert outcome.document == cli("describe", 2, "--json").document
    assert outcome.err.endswith("ValueError: the layer does not fit\n")


def test_waiting_for_an_experiment_that_nobody_runs_says_so(cli, paused: Path) -> None:
    outcome = cli("wait", 3)
    assert outcome.status == 130
    assert "nobody runs experiment 3: `mnist-trials activate 3`" in outcome.err


@pytest.mark.parametrize("command", ["pause", "cancel", "kill", "activate"])
def test_an_experiment_that_has_ended_takes_no_more_commands(cli, stored: Path, command: str) -> None:
    outcome = cli(command, 1)
    assert outcome.status == 2
    assert "ended" in outcome.err
    assert "COMPLETED" in outcome.err


def test_cancelling_an_experiment_that_nobody_runs_is_done_at_once(cli, paused: Path) -> None:
    outcome = cli("cancel", 3)
    assert outcome.status == 0
    assert "Experiment 3 is CANCELED." in outcome.out
    assert cli("wait", 3).status == 3


def test_a_request_as_json_tells_the_state(cli, paused: Path) -> None:
    assert cli("kill", 3, "--json").document == {"experiment_id": 3, "name": "half", "state": "CANCELED"}


def test_activate_with_dry_run_prints_the_plan_and_changes_nothing(cli, paused: Path) -> None:
    outcome = cli("activate", 3, "--dry-run")
    assert outcome.status == 0
    assert "trial 1: start it from the beginning" in outcome.out
    document = cli("activate", 3, "--dry-run", "--json").document
    assert document["trials"][0]["action"] == "start"
    assert cli("describe", 3, "--json").document["state"] == "PAUSED"


def test_delete_without_a_terminal_wants_yes(program, stored: Path) -> None:
    outcome = program("delete", 1)
    assert outcome.status == 2
    assert "experiment 1 (digits, COMPLETED) with 2 checkpoints" in outcome.err
    assert "--yes" in outcome.err
    assert len(program("list", "--json").document) == 2


def test_delete_on_a_terminal_asks_and_takes_no_for_an_answer(cli, on_terminal, stored: Path) -> None:
    outcome = on_terminal("delete", 1, typed="\n")
    assert outcome.status == 2
    assert "Delete experiment 1 (digits, COMPLETED) with 2 checkpoints? [y/N]" in outcome.err
    assert "nothing was deleted" in outcome.err
    assert len(cli("list", "--json").document) == 2
