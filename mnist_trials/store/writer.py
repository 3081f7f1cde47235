"""Writing the store: one transaction per event, all of its effects or none."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import final

from mnist_trials.clock import Clock, SystemClock
from mnist_trials.store import leasing
from mnist_trials.store.connection import FILE_NAME, open_for_writing, translating
from mnist_trials.store.leasing import Holdings
from mnist_trials.store.transaction import Transaction


def open_store(home: Path, clock: Clock | None = None) -> Store:
    """The store of `home`, made and brought up to date where needed.

    Raises:
        StoreError: the home is not writable, full, on a network file system, or its store is of a newer version or
            no store at all.
    """
    return Store(home, clock or SystemClock())


@final
class Store:
    """The writer's side. Use it in a `with` block or call `close`. For one thread only.

    Several processes may have one home open: each transaction holds the only write lock from its beginning and the
    others wait their turn.
    """

    def __init__(self, home: Path, clock: Clock) -> None:
        self._path = home / FILE_NAME
        self._clock = clock
        self._connection = open_for_writing(home)
        self._connection.row_factory = sqlite3.Row
        self._seen_version = -1

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the store."""
        self._connection.close()

    @contextmanager
    def transaction(self, *, power_cut: bool = True) -> Iterator[Transaction]:
        """Everything written in the `with` block is stored at its end, or nothing of it if the block raises.

        What is stored outlives the death of this process at once. It outlives a power cut at once too, unless
        `power_cut` is False: then only from the next transaction on where it is True (or soon), which spares the
        milliseconds of waiting for the disk. Only for what nothing is done upon: an action cannot be taken back.

        Raises:
            StoreError: it could not be written (disk full, locked); nothing of it was.
        """
        with translating(self._path):
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if power_cut else 'NORMAL'}")
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                row = self._connection.execute("UPDATE counter SET value = value + 1 RETURNING value").fetchone()
                yield Transaction(self._connection, row[0], self._clock.wall())
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def changed_elsewhere(self) -> bool:
        """Whether another process has written since this was last asked; costs a few microseconds."""
        with translating(self._path):
            version = int(self._connection.execute("PRAGMA data_version").fetchone()[0])
        changed = version != self._seen_version
        self._seen_version = version
        return changed

    def waiting_commands(self, experiment_id: int) -> list[tuple[int, str]]:
        """The commands that no controller has taken yet, as (number, command), oldest first."""
        query = "SELECT id, command FROM commands WHERE experiment_id = ? AND taken IS NULL ORDER BY id"
        with translating(self._path):
            return [(row["id"], row["command"]) for row in self._connection.execute(query, (experiment_id,))]

    def holdings(self) -> Holdings:
        """Who holds what of this machine and who waits, those whose controller is gone included."""
        with translating(self._path):
            return leasing.read(self._connection)
