"""`trials` and `describe` of a search, and how its end is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from mnist_trials.records import ErrorInfo, ExperimentState, TrialState
from mnist_trials.store import open_store
from mnist_trials.store.rows import TrialRow
from tests.cli.written_search import WHY, Record, actions


def put(record: Record, trial_id: int, **changes: Any) -> None:
    with open_store(record.home) as store, store.transaction() as transaction:
        hparams = {"lr": trial_id / 10, "hidden": 32}
        row = replace(record.row, experiment_id=record.id, trial_id=trial_id, hparams=hparams, **changes)
        transaction.put_trial(row)


def test_the_trials_of_a_search_come_best_first_without_what_is_constant(cli, record: Record) -> None:
    put(record, 2, best_metric=0.01)
    put(record, 5, best_metric=None)
    lines = cli("trials", record.id).out.splitlines()
    assert lines[0].split() == ["trial", "state", "batches", "epochs", "best", "validation_loss", "restarts", "lr"]
    assert [line.split()[0] for line in lines[1:]] == [f"1.{i}" for i in (2, 1, 3, 4, 6, 7, 8, 9, 10, 11, 12, 5)]


def test_of_many_trials_the_best_are_shown_and_the_others_on_demand(cli, record: Record) -> None:
    record.trials(25)
    text = cli("trials", record.id).out
    assert len(text.splitlines()) == 1 + 20 + 1
    assert text.endswith("and 5 more: `mnist-trials trials 1 --all`\n")
    assert len(cli("trials", record.id, "--all").out.splitlines()) == 1 + 25
    assert len(cli("trials", record.id, "--json").document) == 25


def test_nested_hyperparameters_are_columns_by_their_path(cli, stored: Path, trial_row: TrialRow) -> None:
    with open_store(stored) as store, store.transaction() as transaction:
        transaction.put_trial(replace(trial_row, hparams={"net": {"hidden": 8}, "lr": 0.1}))
    header, row = cli("trials", 1).out.splitlines()
    assert (header.split()[-2:], row.split()[-2:]) == (["net.hidden", "lr"], ["8", "0.1"])


def test_describe_tells_the_searcher_and_how_its_trials_ended(cli, record: Record) -> None:
    record.trials(7, stopped_early=True)
    put(record, 9, state=TrialState.RUNNING)
    text = cli("describe", record.id).out
    assert "  searcher    asha by validation_loss (smaller is better), 20 trials at most\n" in text
    assert "  trials      1 running, 7 stopped, 4 completed\n" in text
    table = text.partition("best trials:\n")[2].splitlines()
    assert table[0].split()[0] == "trial"
    assert [line.split()[0] for line in table[1:6]] == ["1.1", "1.2", "1.3", "1.4", "1.5"]


def test_describe_counts_who_was_stopped_or_rests_at_each_rung(cli, record: Record) -> None:
    low = {**WHY, "rung": 0, "units": 64}
    for trial_id in (1, 2):
        record.validated(trial_id, 0.5, [{"action": "Stop", "trial_id": trial_id, "why": low}], units=64)
    for trial_id in (3, 4):
        record.validated(trial_id, 0.5, [{"action": "Pause", "trial_id": trial_id, "why": WHY}])
    record.validated(5, 0.5, [{"action": "Resume", "trial_id": 4, "until": 1024, "why": WHY}])
    record.validated(6, 0.5, actions(("Stop", 6)))
    text = cli("describe", record.id).out
    rows = [line.split() for line in text.partition("rungs:\n")[2].splitlines()]
    assert rows[0] == ["bracket", "rung", "batches", "trials", "by", "plan", "stopped", "or", "paused", "there"]
    assert [row[-1] for row in rows[1:3]] == ["2", "1"]


def test_describe_tells_a_notice_of_several_trials_once(cli, record: Record) -> None:
    with open_store(record.home) as store, store.transaction() as transaction:
        for trial_id in (3, 4, 5, None):
            message = "the metric is missing" if trial_id else "the disk is slow"
            transaction.add_notice(record.id, trial_id, message)
    notices = cli("describe", record.id).out.partition("notices:\n")[2].splitlines()
    assert [line[23:] for line in notices] == ["trial 1.3 and 2 more: the metric is missing", "the disk is slow"]


def test_describe_tells_what_an_experiment_was_made_of(cli, record: Record) -> None:
    source = {"experiment_id": 1, "trial_id": 3, "checkpoint": "abc", "batches": 70, "location": "/x/abc"}
    with open_store(record.home) as store, store.transaction() as transaction:
        config = {"name": "b", "searcher": {"metric": "loss", "smaller_is_better": True}}
        transaction.add_experiment("b", config, {"forked_from": 1, "warm_start": source})
    text = cli("describe", 2).out
    assert "  forked from experiment 1\n" in text
    assert "  starts from trial 1.3 at batch 70, checkpoint abc\n" in text


def test_of_many_failed_trials_the_first_are_told_and_the_others_counted(cli, record: Record) -> None:
    error = ErrorInfo(type="ValueError", message="too wide", traceback="Traceback", batches=3)
    record.trials(8, state=TrialState.ERROR, error=error)
    with open_store(record.home) as store, store.transaction() as transaction:
        transaction.update_experiment(record.id, state=ExperimentState.COMPLETED)
    outcome = cli("wait", record.id)
    assert outcome.status == 1
    assert outcome.err.count("ended in error at batch 3: ValueError: too wide") == 5
    assert "and 3 more trials ended in error" in outcome.err


def test_what_a_search_ends_in_status_1_for_is_told_before_invalid_hyperparameters(cli, record: Record) -> None:
    invalid = ErrorInfo(type="InvalidHP", message="too wide", traceback="Traceback of an InvalidHP", batches=0)
    record.trials(8, state=TrialState.ERROR, error=invalid)
    error = ErrorInfo(type="ValueError", message="broken", traceback="Traceback of a ValueError", batches=3)
    put(record, 9, state=TrialState.ERROR, error=error)
    put(record, 10)
    with open_store(record.home) as store, store.transaction() as transaction:
        transaction.update_experiment(record.id, state=ExperimentState.COMPLETED)
    outcome = cli("wait", record.id)
    assert outcome.status == 1
    assert outcome.err.startswith("mnist-trials: trial 1.9 ended in error at batch 3: ValueError: broken\n")
    assert "`mnist-trials logs 1.9` shows all" in outcome.err
    assert outcome.err.endswith("\nTraceback of a ValueError\n")
    assert "  mnist-trials decisions 1\n" in outcome.out, "a search that is done can be looked at all the same"


def test_a_search_whose_invalid_trials_were_replaced_is_done(cli, record: Record) -> None:
    error = ErrorInfo(type="InvalidHP", message="too wide", traceback="", batches=0)
    put(record, 3, state=TrialState.ERROR, error=error)
    with open_store(record.home) as store, store.transaction() as transaction:
        transaction.update_experiment(record.id, state=ExperimentState.COMPLETED)
    assert cli("wait", record.id).status == 0
    put(record, 4, state=TrialState.ERROR, error=replace(error, type="ValueError"))
    assert cli("wait", record.id).status == 1
