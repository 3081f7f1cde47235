"""What experiments hold of the machine, and which wait for it."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from mnist_trials.store import Holdings, Store, open_reader
from mnist_trials.store.rows import LeaseRow, WaitingRow


def lease(unit: str, trial_id: int = 1, experiment_id: int = 1) -> LeaseRow:
    return LeaseRow(unit=unit, experiment_id=experiment_id, trial_id=trial_id, run=1)


def waiting(experiment_id: int, place: int, text: str = "waits") -> WaitingRow:
    return WaitingRow(
        experiment_id=experiment_id,
        trial_id=2,
        place=place,
        since=5.0,
        slots=2,
        units=frozenset({"cpu.0", "cpu.1"}),
        text=text,
    )


@pytest.fixture
def with_two(with_trial: Store, make: Any) -> Store:
    with with_trial.transaction() as transaction:
        transaction.add_experiment("two", make.config, {})
    return with_trial


def test_rows_come_back_as_they_were_written_and_those_that_wait_by_their_place(with_two: Store, home: Path) -> None:
    rows = (lease("cpu.0"), lease("cuda:0", experiment_id=2))
    with with_two.transaction() as transaction:
        transaction.take_leases(rows)
        transaction.queue(waiting(1, 7))
        transaction.queue(waiting(2, 6, "old"))
        transaction.queue(waiting(2, 6, "new"))
        expected = Holdings(rows, (waiting(2, 6, "new"), waiting(1, 7)))
        assert transaction.holdings() == expected
    assert with_two.holdings() == expected
    with open_reader(home) as reader:
        assert reader.holdings() == expected
    assert expected.experiments == {1, 2}
    assert expected.without({2}) == Holdings(rows[:1], (waiting(1, 7),))


def test_a_unit_cannot_be_held_twice_and_then_nothing_of_the_transaction_is_stored(with_two: Store) -> None:
    with with_two.transaction() as transaction:
        transaction.take_leases([lease("cpu.0")])
    with pytest.raises(sqlite3.IntegrityError), with_two.transaction() as transaction:
        transaction.take_leases([lease("cpu.1", experiment_id=2), lease("cpu.0", experiment_id=2)])
    assert with_two.holdings().leases == (lease("cpu.0"),)


def test_what_is_given_back_is_that_trials_or_experiments_alone(with_two: Store) -> None:
    rows = [lease("cpu.0", 1), lease("cpu.1", 1), lease("cpu.2", 2), lease("cpu.3", 1, experiment_id=2)]
    with with_two.transaction() as transaction:
        transaction.take_leases(rows)
        transaction.queue(waiting(1, 1))
        transaction.queue(waiting(2, 2))
        transaction.release(1, 1)
        assert transaction.holdings().leases == tuple(rows[2:])
        transaction.leave_queue(1)
        assert transaction.holdings().waiting == (waiting(2, 2),)
        transaction.forget_holdings(2)
        assert transaction.holdings() == Holdings((rows[2],))
        transaction.cancel_trials(1, "")
        assert transaction.holdings() == Holdings()


def test_an_experiment_that_is_deleted_holds_nothing(with_two: Store) -> None:
    with with_two.transaction() as transaction:
        transaction.take_leases([lease("cpu.0")])
        transaction.queue(waiting(1, 1))
        transaction.delete_experiment(1)
        assert transaction.holdings() == Holdings()
