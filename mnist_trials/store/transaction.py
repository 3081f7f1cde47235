"""What one transaction writes: an event, and all of its effects."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, final

from mnist_trials.errors import UsageError
from mnist_trials.records import ExperimentState
from mnist_trials.store import codec, leasing
from mnist_trials.store.leasing import Holdings
from mnist_trials.store.rows import CheckpointRow, HistogramRow, LeaseRow, MetricRow, RunRow, TrialRow, WaitingRow

MOST_HISTOGRAMS: Final = 100
"""Points at which the store keeps the histograms of a trial, at most."""


@final
class Transaction:
    """What can be written; only valid inside the `with` block of `Store.transaction`.

    `sequence` is this transaction's number, greater than that of every transaction before it.
    """

    def __init__(self, connection: sqlite3.Connection, sequence: int, time: float) -> None:
        self._connection = connection
        self.sequence = sequence
        self.time = time

    def add_experiment(
        self, name: str, config: Mapping[str, Any], options: Mapping[str, Any], *, above: int = 0
    ) -> int:
        """A new experiment, ACTIVE; returns its id, above `above`, which no other experiment of this store ever had."""
        given = self._connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'experiments'").fetchone()
        values: codec.Columns = {
            "id": max(above, given[0] if given else 0) + 1,
            "name": name,
            "state": ExperimentState.ACTIVE.value,
            "config": codec.to_text(config),
            "options": codec.to_text(options),
            "created": self.time,
        }
        return self._insert("experiments", values)

    def update_experiment(
        self,
        experiment_id: int,
        *,
        state: ExperimentState | None = None,
        message: str | None = None,
        progress: float | None = None,
        add_seconds: float = 0.0,
    ) -> None:
        """Change what is not None. A state that is an end also sets the time of ending, any other clears it."""
        ended = "ended"
        if state is not None:
            ended = ":time" if state.ended else "NULL"
        self._connection.execute(
            f"""
            UPDATE experiments SET
                state = ifnull(:state, state), message = ifnull(:message, message),
                progress = max(progress, ifnull(:progress, progress)), wall_seconds = wall_seconds + :seconds,
                ended = {ended}, sequence = :sequence
            WHERE id = :id
            """,  # noqa: S608 - one of three fixed words
            {
                "state": None if state is None else state.value,
                "message": message,
                "progress": progress,
                "seconds": add_seconds,
                "time": self.time,
                "sequence": self.sequence,
                "id": experiment_id,
            },
        )

    def delete_experiment(self, experiment_id: int) -> None:
        """Forget an experiment with all that belongs to it."""
        self._connection.execute("DELETE FROM experiments WHERE id = ?", (experiment_id,))

    def save_searcher(self, experiment_id: int, snapshot: Mapping[str, Any], shut_down: bool, after: int) -> int:
        """The searcher's state after the decision with the id `after`; returns how many characters it took."""
        text = codec.to_text(snapshot)
        self._connection.execute(
            "INSERT OR REPLACE INTO searchers (experiment_id, snapshot, shut_down, after) VALUES (?, ?, ?, ?)",
            (experiment_id, text, int(shut_down), after),
        )
        return len(text)

    def put_trial(self, trial: TrialRow) -> None:
        """Add a trial or bring its row up to date."""
        self._upsert("trials", codec.TRIALS.columns(trial), ("experiment_id", "trial_id"))

    def trial(self, experiment_id: int, trial_id: int) -> TrialRow:
        """A trial that is there, as it is after what this transaction has written so far."""
        query = "SELECT * FROM trials WHERE experiment_id = ? AND trial_id = ?"
        return codec.TRIALS.record(self._connection.execute(query, (experiment_id, trial_id)).fetchone())

    def cancel_trials(self, experiment_id: int, message: str) -> None:
        """End all trials of an experiment that have not ended, and their runs, and give back what they hold."""
        leasing.forget(self._connection, experiment_id)
        self._connection.execute(
            "UPDATE runs SET ended = ?, sequence = ? WHERE experiment_id = ? AND ended IS NULL",
            (self.time, self.sequence, experiment_id),
        )
        self._connection.execute(
            "UPDATE trials SET state = 'CANCELED', message = ?, resting = 0, sequence = ? "
            "WHERE experiment_id = ? AND state NOT IN ('COMPLETED', 'CANCELED', 'ERROR')",
            (message, self.sequence, experiment_id),
        )

    def put_run(self, experiment_id: int, run: RunRow) -> None:
        """Add a run or bring its row up to date."""
        self._upsert("runs", codec.RUNS.columns(run, experiment_id=experiment_id), ("experiment_id", "trial_id", "run"))

    def holdings(self) -> Holdings:
        """As `Store.holdings`, as it is after what this transaction has written so far."""
        return leasing.read(self._connection)

    def take_leases(self, leases: Iterable[LeaseRow]) -> None:
        """Let runs hold units, none of which anybody holds."""
        leasing.take(self._connection, leases)

    def release(self, experiment_id: int, trial_id: int) -> None:
        """Give back what a trial holds."""
        leasing.release(self._connection, experiment_id, trial_id)

    def queue(self, waiting: WaitingRow) -> None:
        """Add an experiment to those that wait for units, or bring its row up to date."""
        leasing.queue(self._connection, waiting)

    def leave_queue(self, experiment_id: int) -> None:
        """The experiment waits no more."""
        leasing.leave_queue(self._connection, experiment_id)

    def forget_holdings(self, experiment_id: int) -> None:
        """Give back all that an experiment holds; it waits no more."""
        leasing.forget(self._connection, experiment_id)

    def add_metrics(self, experiment_id: int, metric: MetricRow) -> None:
        """Metrics of a trial at one point; they take the place of those of the same kind at the same point."""
        self._connection.execute(
            "UPDATE metrics SET superseded = 1, sequence = ? WHERE experiment_id = ? AND trial_id = ? AND kind = ? "
            "AND batches = ? AND NOT superseded",
            (self.sequence, experiment_id, metric.trial_id, metric.kind, metric.batches),
        )
        self._insert("metrics", codec.METRICS.columns(metric, experiment_id=experiment_id))

    def supersede_metrics(self, experiment_id: int, trial_id: int, batches: int) -> None:
        """Leave out from now on what was reported beyond `batches`: the trial goes on from there."""
        self._connection.execute(
            "UPDATE metrics SET superseded = 1, sequence = ? WHERE experiment_id = ? AND trial_id = ? "
            "AND batches > ? AND NOT superseded",
            (self.sequence, experiment_id, trial_id, batches),
        )

    def add_histograms(self, experiment_id: int, row: HistogramRow) -> None:
        """Histograms of a trial at one point; they take the place of those at the same point.

        Where there are more than `MOST_HISTOGRAMS` points then, the one that lies between the two nearest to each other
        is given up: so those that are left lie about evenly over all of training.
        """
        self._upsert(
            "histograms",
            codec.HISTOGRAMS.columns(row, experiment_id=experiment_id),
            ("experiment_id", "trial_id", "batches"),
        )
        self._connection.execute(
            "DELETE FROM histograms WHERE id IN (SELECT id FROM (SELECT id, batches, count(*) OVER () AS points, "
            "lead(batches) OVER line - lag(batches) OVER line AS gap FROM histograms "
            "WHERE experiment_id = ? AND trial_id = ? WINDOW line AS (ORDER BY batches)) "
            "WHERE points > ? AND gap IS NOT NULL ORDER BY gap, batches LIMIT 1)",
            (experiment_id, row.trial_id, MOST_HISTOGRAMS),
        )

    def forget_histograms(self, experiment_id: int, trial_id: int, batches: int) -> None:
        """Give up what was reported beyond `batches`: the trial goes on from there."""
        self._connection.execute(
            "DELETE FROM histograms WHERE experiment_id = ? AND trial_id = ? AND batches > ?",
            (experiment_id, trial_id, batches),
        )

    def validations(self, experiment_id: int, trial_id: int) -> list[MetricRow]:
        """The validations of a trial that count, in the order of training, this transaction's included."""
        query = (
            "SELECT * FROM metrics WHERE experiment_id = ? AND trial_id = ? AND kind = 'validation' "
            "AND NOT superseded ORDER BY batches, id"
        )
        return [codec.METRICS.record(row) for row in self._connection.execute(query, (experiment_id, trial_id))]

    def put_checkpoint(self, checkpoint: CheckpointRow) -> None:
        """Add a checkpoint or bring its row up to date."""
        self._upsert("checkpoints", codec.CHECKPOINTS.columns(checkpoint), ("uuid",))

    def first_checkpoint(self, experiment_id: int, trial_id: int, batches: int) -> str | None:
        """The id of the earliest usable checkpoint of a trial that has `batches` or more; None: there is none."""
        query = (
            "SELECT uuid FROM checkpoints WHERE experiment_id = ? AND trial_id = ? AND batches >= ? "
            "AND state = 'COMPLETED' ORDER BY batches, sequence LIMIT 1"
        )
        found = self._connection.execute(query, (experiment_id, trial_id, batches)).fetchone()
        return None if found is None else str(found[0])

    def usable_checkpoints(self, experiment_id: int) -> list[CheckpointRow]:
        """The checkpoints of an experiment that can be used, in the order in which they were saved."""
        query = "SELECT * FROM checkpoints WHERE experiment_id = ? AND state = 'COMPLETED' ORDER BY sequence, rowid"
        return [codec.CHECKPOINTS.record(row) for row in self._connection.execute(query, (experiment_id,))]

    def checkpoint_state(self, uuid: str) -> str | None:
        """The state of a checkpoint, as in `CheckpointRow`; None: the store does not know it."""
        found = self._connection.execute("SELECT state FROM checkpoints WHERE uuid = ?", (uuid,)).fetchone()
        return None if found is None else str(found[0])

    def sources_elsewhere(self, experiment_id: int) -> frozenset[str]:
        """The checkpoints that experiments other than this one, not ended yet, start from."""
        query = (
            "SELECT json_extract(options, '$.warm_start.checkpoint') FROM experiments "
            "WHERE id != ? AND state NOT IN ('COMPLETED', 'CANCELED', 'ERROR')"
        )
        return frozenset(row[0] for row in self._connection.execute(query, (experiment_id,)) if row[0] is not None)

    def set_checkpoint_state(self, uuid: str, state: str) -> None:
        """`state` is as in `CheckpointRow`; no effect on an id that is not there, or was given up already."""
        self._connection.execute(
            "UPDATE checkpoints SET state = ?, sequence = ? WHERE uuid = ? AND state NOT IN ('DELETING', 'DELETED')",
            (state, self.sequence, uuid),
        )

    def give_up_checkpoint(self, experiment_id: int, trial_id: int, uuid: str) -> None:
        """The checkpoint, of that trial, is DELETING from now on, and the trial's row does not name it any more."""
        self._take_back(experiment_id, trial_id, uuid, "DELETING")

    def damage_checkpoint(self, experiment_id: int, trial_id: int, uuid: str) -> None:
        """The checkpoint, of that trial, is DAMAGED from now on, and the trial's row does not name it any more."""
        self._take_back(experiment_id, trial_id, uuid, "DAMAGED")

    def checkpoint_verified(self, uuid: str) -> None:
        """The checkpoint was found to be whole where it lies."""
        self._connection.execute(
            "UPDATE checkpoints SET verified = 1, sequence = ? WHERE uuid = ?", (self.sequence, uuid)
        )

    def _take_back(self, experiment_id: int, trial_id: int, uuid: str, state: str) -> None:
        self.set_checkpoint_state(uuid, state)
        self._connection.execute(
            "UPDATE trials SET best_checkpoint = nullif(best_checkpoint, :uuid), "
            "latest_checkpoint = CASE latest_checkpoint WHEN :uuid THEN (SELECT uuid FROM checkpoints AS kept "
            "WHERE kept.experiment_id = :experiment AND kept.trial_id = :trial AND kept.state = 'COMPLETED' "
            "ORDER BY kept.batches DESC, kept.sequence DESC LIMIT 1) ELSE latest_checkpoint END, sequence = :sequence "
            "WHERE experiment_id = :experiment AND trial_id = :trial AND :uuid IN (best_checkpoint, latest_checkpoint)",
            {"uuid": uuid, "experiment": experiment_id, "trial": trial_id, "sequence": self.sequence},
        )

    def checkpoints_deleted(self, uuids: Iterable[str]) -> None:
        """Checkpoints that were given up are gone."""
        self._connection.executemany(
            "UPDATE checkpoints SET state = 'DELETED', sequence = ? WHERE uuid = ? AND state = 'DELETING'",
            [(self.sequence, uuid) for uuid in uuids],
        )

    def add_notice(self, experiment_id: int, trial_id: int | None, message: str) -> None:
        """Something a person must be told; `trial_id` None: of the whole experiment."""
        values: codec.Columns = {
            "experiment_id": experiment_id,
            "trial_id": trial_id,
            "message": message,
            "time": self.time,
        }
        self._insert("notices", values)

    def add_decision(
        self,
        experiment_id: int,
        trial_id: int | None,
        event: str,
        actions: Sequence[Mapping[str, Any]],
        *,
        units: int | None = None,
        metric: float | None = None,
        reason: str = "",
    ) -> int:
        """What the searcher was told in this transaction and what it decided; returns the decision's id."""
        values: codec.Columns = {
            "experiment_id": experiment_id,
            "trial_id": trial_id,
            "event": event,
            "units": units,
            "metric": metric,
            "reason": reason,
            "actions": codec.to_text(actions),
            "time": self.time,
        }
        return self._insert("decisions", values)

    def add_command(self, experiment_id: int, command: str) -> int:
        """A person's command for the controller; returns its number.

        Raises:
            UsageError: there is no such experiment.
        """
        try:
            return self._number(
                "INSERT INTO commands (experiment_id, command, time) VALUES (?, ?, ?) RETURNING id",
                (experiment_id, command, self.time),
            )
        except sqlite3.IntegrityError as error:
            raise UsageError(f"There is no experiment {experiment_id}.") from error

    def take_commands(self, experiment_id: int, up_to: int) -> None:
        """Mark the commands up to that number as taken."""
        self._connection.execute(
            "UPDATE commands SET taken = ? WHERE experiment_id = ? AND id <= ? AND taken IS NULL",
            (self.time, experiment_id, up_to),
        )

    def _insert(self, table: str, values: codec.Columns) -> int:
        return self._write(table, values, "")

    def _upsert(self, table: str, values: codec.Columns, key: tuple[str, ...]) -> None:
        changes = ", ".join(f"{name} = excluded.{name}" for name in (*values, "sequence") if name not in key)
        self._write(table, values, f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET {changes}")

    def _write(self, table: str, values: codec.Columns, conflict: str) -> int:
        names = ", ".join((*values, "sequence"))
        marks = ", ".join("?" * (len(values) + 1))
        query = f"INSERT INTO {table} ({names}) VALUES ({marks}) {conflict} RETURNING rowid"  # noqa: S608 - our names
        return self._number(query, (*values.values(), self.sequence))

    def _number(self, query: str, values: Sequence[object]) -> int:
        try:
            return int(self._connection.execute(query, values).fetchone()[0])
        except UnicodeEncodeError:  # half a character, from a user's own text
            return int(self._connection.execute(query, [_storable(value) for value in values]).fetchone()[0])


def _storable(value: object) -> object:
    return value.encode("utf-8", "backslashreplace").decode("utf-8") if isinstance(value, str) else value
