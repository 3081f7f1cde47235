"""Who holds what of the machine, and who waits for it: the tables `leases` and `waiting`.

Rows of experiments whose controller is gone may be in these tables too: who reads them asks for the locks.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import final

from mnist_trials.store import codec
from mnist_trials.store.rows import LeaseRow, WaitingRow


@final
@dataclass(frozen=True, slots=True)
class Holdings:
    """All rows of both tables as of one moment; those that wait in the order in which they came."""

    leases: tuple[LeaseRow, ...] = ()
    waiting: tuple[WaitingRow, ...] = ()

    @property
    def experiments(self) -> set[int]:
        """All experiments that have a row."""
        return {row.experiment_id for row in self.leases} | {row.experiment_id for row in self.waiting}

    def without(self, experiments: Collection[int]) -> Holdings:
        """What is left if the rows of `experiments` do not count."""
        return Holdings(
            tuple(row for row in self.leases if row.experiment_id not in experiments),
            tuple(row for row in self.waiting if row.experiment_id not in experiments),
        )


def read(connection: sqlite3.Connection) -> Holdings:
    """What `connection` sees, both tables as of one moment."""
    own = not connection.in_transaction
    if own:
        connection.execute("BEGIN")
    try:
        leases = connection.execute("SELECT * FROM leases ORDER BY unit").fetchall()
        waiting = connection.execute("SELECT * FROM waiting ORDER BY place").fetchall()
    finally:
        if own:
            connection.execute("ROLLBACK")
    return Holdings(tuple(map(codec.LEASES.record, leases)), tuple(map(codec.WAITING.record, waiting)))


def take(connection: sqlite3.Connection, leases: Iterable[LeaseRow]) -> None:
    """Add rows; a unit that has one already is an error of SQLite's."""
    for lease in leases:
        _insert(connection, "leases", codec.LEASES.columns(lease))


def release(connection: sqlite3.Connection, experiment_id: int, trial_id: int) -> None:
    """Give back what a trial holds."""
    connection.execute("DELETE FROM leases WHERE experiment_id = ? AND trial_id = ?", (experiment_id, trial_id))


def queue(connection: sqlite3.Connection, waiting: WaitingRow) -> None:
    """Add an experiment to those that wait, or bring its row up to date."""
    leave_queue(connection, waiting.experiment_id)
    _insert(connection, "waiting", codec.WAITING.columns(waiting))


def leave_queue(connection: sqlite3.Connection, experiment_id: int) -> None:
    """The experiment waits no more."""
    connection.execute("DELETE FROM waiting WHERE experiment_id = ?", (experiment_id,))


def forget(connection: sqlite3.Connection, experiment_id: int) -> None:
    """Remove all rows of an experiment."""
    connection.execute("DELETE FROM leases WHERE experiment_id = ?", (experiment_id,))
    leave_queue(connection, experiment_id)


def _insert(connection: sqlite3.Connection, table: str, values: codec.Columns) -> None:
    names, marks = ", ".join(values), ", ".join("?" * len(values))
    query = f"INSERT INTO {table} ({names}) VALUES ({marks})"  # noqa: S608 - our names
    connection.execute(query, tuple(values.values()))
