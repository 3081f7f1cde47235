"""An experiment that an earlier version began goes on in this one."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from mnist_trials.store.schema import _FIRST, APPLICATION_ID


def as_of_the_first_version(home: Path) -> None:
    """Put a store of the first version, with all that it can hold, in the place of the store of `home`."""
    old = sqlite3.connect(home / "old.sqlite")
    for statement in _FIRST:
        old.execute(statement)
    old.execute("DELETE FROM counter")
    old.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    old.execute("PRAGMA user_version = 1")
    old.execute("ATTACH ? AS new", (str(home / "store.sqlite"),))
    for (table,) in old.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND sql LIKE '%STRICT%'"
    ).fetchall():
        columns = ", ".join(row[1] for row in old.execute(f"PRAGMA table_info({table})"))
        old.execute(f"INSERT INTO {table} ({columns}) SELECT {columns} FROM new.{table}")
    old.commit()
    old.close()
    for file in home.glob("store.sqlite*"):
        file.unlink()
    (home / "old.sqlite").rename(home / "store.sqlite")


def test_an_experiment_that_was_cut_off_under_the_first_version_goes_on(lab: Any) -> None:
    experiment_id = lab.submit(lab.config(launcher="local", do="hold", at=3, in_runs=[1]))
    process = lab.start(experiment_id)
    lab.wait_until_holding(experiment_id)
    process.kill()
    process.communicate(timeout=60)
    as_of_the_first_version(lab.home)
    assert lab.run(experiment_id)["state"] == "COMPLETED"
    lab.run(undisturbed := lab.submit(lab.config()))
    assert lab.values(experiment_id) == lab.values(undisturbed)
    with lab.reader() as reader:
        told = [row.units for row in reader.decisions(experiment_id) if row.event == "validation_completed"]
    assert told == [2, 4, 6]
