"""What the store holds of a search, and what a controller asks of it when it goes on."""

from __future__ import annotations

import sqlite3
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from mnist_trials.records import TrialState
from mnist_trials.store import Store, open_reader, open_store
from mnist_trials.store.schema import _FIRST, APPLICATION_ID, VERSION


def test_what_a_searcher_wants_of_a_trial_comes_back_as_it_was_written(
    with_trial: Store, home: Path, make: Any
) -> None:
    rows = [
        make.trial(trial_id=1, until=16, resting=True),
        make.trial(trial_id=2, source_trial=1, source_batches=16),
        make.trial(trial_id=3),
    ]
    with with_trial.transaction() as transaction:
        for row in rows:
            transaction.put_trial(row)
        assert [transaction.trial(1, row.trial_id) for row in rows] == rows
    with open_reader(home) as reader:
        assert reader.trials(1) == rows


def test_those_that_have_not_ended_are_read_without_the_others_with_their_runs(
    with_trial: Store, home: Path, make: Any
) -> None:
    states = dict(enumerate(TrialState, start=1))
    with with_trial.transaction() as transaction:
        for number, state in states.items():
            transaction.put_trial(make.trial(trial_id=number, state=state))
            transaction.put_run(1, make.run(number, 2))
            transaction.put_run(1, make.run(number, 1))
    live = [number for number, state in states.items() if not state.ended]
    with open_reader(home) as reader:
        assert [row.trial_id for row in reader.live_trials(1)] == live
        assert [(run.trial_id, run.run) for run in reader.runs_of_live_trials(1)] == [
            (number, run) for number in live for run in (1, 2)
        ]
        assert reader.live_trials(2) == reader.runs_of_live_trials(2) == []


def test_the_first_usable_checkpoint_from_a_point_on_is_found(with_trial: Store, make: Any) -> None:
    with with_trial.transaction() as transaction:
        for batches in (8, 2, 4):
            transaction.put_checkpoint(make.checkpoint(f"at {batches}", batches))
        transaction.set_checkpoint_state("at 4", "DAMAGED")
        assert transaction.first_checkpoint(1, 1, 2) == "at 2"
        assert transaction.first_checkpoint(1, 1, 3) == "at 8"
        assert transaction.first_checkpoint(1, 1, 9) is None
        assert transaction.first_checkpoint(1, 2, 0) is None


def test_how_far_each_trial_was_when_it_was_last_judged(with_trial: Store, home: Path) -> None:
    with with_trial.transaction() as transaction:
        for trial_id, units in ((1, 2), (2, 2), (1, 4)):
            transaction.add_decision(1, trial_id, "validation_completed", [], units=units)
        transaction.add_decision(1, 3, "trial_exited", [])
    with open_reader(home) as reader:
        assert reader.judged_units(1) == {1: 4, 2: 2}
        assert reader.judged_units(2) == {}


@pytest.mark.parametrize(
    ("actions", "reason"),
    [
        ([{"action": "Create", "trial_id": 1}], ""),
        ([{"action": "Shutdown"}], ""),
        ([{"action": "Create", "trial_id": 1}, {"action": "Shutdown", "why": "too many"}], "too many"),
        ([{"action": "Stop", "trial_id": 1, "why": 'said "Shutdown"'}], ""),
    ],
)
def test_why_a_search_was_ended_early(with_trial: Store, home: Path, actions: list[Any], reason: str) -> None:
    with with_trial.transaction() as transaction:
        transaction.add_decision(1, None, "initial_trials", actions)
    with open_reader(home) as reader:
        assert reader.shutdown_reason(1) == reason


def first_version(home: Path) -> None:
    """A store as the first version wrote it, with an experiment in the midst of its search."""
    home.mkdir()
    with sqlite3.connect(home / "store.sqlite") as connection:
        for statement in _FIRST:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 1")
        for number, name in ((1, "one"), (2, "not begun")):
            connection.execute(
                "INSERT INTO experiments (id, name, state, config, options, created, sequence) "
                "VALUES (?, ?, 'ACTIVE', '{}', '{}', 1.0, 1)",
                (number, name),
            )
        connection.execute("INSERT INTO searchers VALUES (1, '{\"units\":4}', 1)")
        connection.execute(
            "INSERT INTO trials VALUES (1, 1, 'PAUSED', '{\"lr\":0.1}', 7, 4, 0.5, 40, NULL, 0, 0, 'mnist', 0, 0.5, 4, "
            "'{}', 'abc', 'abc', NULL, '', 4, 0, 3)"
        )
        connection.execute(
            "INSERT INTO decisions (experiment_id, trial_id, event, units, metric, actions, time, sequence) VALUES "
            '(1, NULL, \'initial_trials\', NULL, NULL, \'[{"action":"Create","trial_id":1}]\', 1.0, 2), '
            "(1, 1, 'validation_completed', 4, 0.5, '[]', 1.0, 3)"
        )
    connection.close()


@pytest.mark.parametrize("opener", [open_store, open_reader])
def test_a_store_of_the_first_version_is_brought_up_to_date_with_its_searches(home: Path, opener: Any) -> None:
    first_version(home)
    opener(home).close()
    with open_reader(home) as reader:
        assert reader.searcher(1) == ({"units": 4}, True, 2), "nothing is to be replayed"
        assert reader.searcher(2) is None
        assert [(row.id, row.event, row.reason) for row in reader.decisions(1)] == [
            (1, "initial_trials", ""),
            (2, "validation_completed", ""),
        ]
        (trial,) = reader.live_trials(1)
        assert (trial.state, trial.batches, trial.judged_batches) == (TrialState.PAUSED, 4, 4)
        assert (trial.until, trial.resting, trial.source_trial, trial.source_batches) == (None, False, None, 0)
        assert reader.judged_units(1) == {1: 4}
    with open_store(home) as store, store.transaction() as transaction:
        transaction.put_trial(trial)
        assert asdict(transaction.trial(1, 1)) == asdict(trial)
        assert transaction.add_decision(1, 1, "trial_exited", []) == 3


def test_a_store_brought_up_to_date_has_the_tables_of_a_new_one(home: Path, tmp_path: Path) -> None:
    first_version(home)
    open_store(home).close()
    open_store(tmp_path / "new").close()
    assert tables(home) == tables(tmp_path / "new")


def tables(home: Path) -> tuple[int, dict[str, Any]]:
    """The version, the columns of every table, and the indices."""
    connection = sqlite3.connect(home / "store.sqlite")
    names = connection.execute("SELECT name FROM sqlite_master ORDER BY name").fetchall()
    columns = {name: connection.execute(f"PRAGMA table_info({name})").fetchall() for (name,) in names}
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    connection.close()
    assert version == VERSION
    return version, columns
