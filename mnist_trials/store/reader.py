"""Reading the store. Each call sees one consistent state; nothing here can disturb the controller."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, final

from mnist_trials.errors import UsageError
from mnist_trials.records import TrialState
from mnist_trials.store import codec, leasing
from mnist_trials.store.connection import FILE_NAME, open_for_reading, translating
from mnist_trials.store.leasing import Holdings
from mnist_trials.store.rows import (
    CheckpointRow,
    DecisionRow,
    ExperimentRow,
    HistogramRow,
    MetricRow,
    NoticeRow,
    RunRow,
    TrialRow,
)
from mnist_trials.store.summary import summarize

T = TypeVar("T")

_ENDED = ", ".join(f"'{state}'" for state in TrialState if state.ended)

_PIECE = 1000  # rows read at once where there may be very many


def open_reader(home: Path) -> Reader:
    """A read-only view of the store of `home`; an empty one where there is no store yet.

    Raises:
        StoreError: there is one and it cannot be read, or a newer version wrote it.
    """
    return Reader(home)


@final
class Reader:
    """Read-only queries. Use it in a `with` block or call `close`. For one thread only.

    Every method raises UsageError for an experiment, trial or checkpoint that is not there, and StoreError when the
    store cannot be read.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self._path = home / FILE_NAME
        self._connection = open_for_reading(home)
        self._connection.row_factory = sqlite3.Row

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the store."""
        self._connection.close()

    def experiments(self) -> list[ExperimentRow]:
        """All experiments, oldest first."""
        return self._rows(codec.EXPERIMENTS.record, "SELECT * FROM experiments ORDER BY id")

    def experiment(self, experiment_id: int) -> ExperimentRow:
        """One experiment."""
        found = self._rows(codec.EXPERIMENTS.record, "SELECT * FROM experiments WHERE id = ?", experiment_id)
        if not found:
            raise UsageError(self._no_experiment(experiment_id))
        return found[0]

    def trials(self, experiment_id: int) -> list[TrialRow]:
        """The trials of an experiment by id."""
        self.experiment(experiment_id)
        query = "SELECT * FROM trials WHERE experiment_id = ? ORDER BY trial_id"
        return self._rows(codec.TRIALS.record, query, experiment_id)

    def live_trials(self, experiment_id: int) -> list[TrialRow]:
        """The trials of an experiment that have not ended, by id."""
        query = f"SELECT * FROM trials WHERE experiment_id = ? AND state NOT IN ({_ENDED}) ORDER BY trial_id"  # noqa: S608
        return self._rows(codec.TRIALS.record, query, experiment_id)

    def trial_counts(self) -> dict[int, int]:
        """How many trials each experiment has; one without any is left out."""
        query = "SELECT experiment_id, count(*) FROM trials GROUP BY experiment_id"
        return dict(self._rows(lambda row: (int(row[0]), int(row[1])), query))

    def trial_standing(self, experiment_id: int) -> dict[tuple[TrialState, bool], int]:
        """How many trials of an experiment are in each state, those stopped early by the searcher apart (True)."""
        query = "SELECT state, stopped_early, count(*) FROM trials WHERE experiment_id = ? GROUP BY 1, 2"
        return dict(self._rows(lambda row: ((TrialState(row[0]), bool(row[1])), int(row[2])), query, experiment_id))

    def best_trials(self, experiment_id: int, limit: int) -> list[TrialRow]:
        """The trials with the best validations so far, best first, of equals the first; at most `limit`."""
        sign = 1 if self.experiment(experiment_id).config["searcher"]["smaller_is_better"] else -1
        query = (
            "SELECT * FROM trials WHERE experiment_id = ? AND best_metric IS NOT NULL "
            "ORDER BY ? * best_metric, trial_id LIMIT ?"
        )
        return self._rows(codec.TRIALS.record, query, experiment_id, sign, limit)

    def trial(self, experiment_id: int, trial_id: int) -> TrialRow:
        """One trial."""
        query = "SELECT * FROM trials WHERE experiment_id = ? AND trial_id = ?"
        found = self._rows(codec.TRIALS.record, query, experiment_id, trial_id)
        if not found:
            count = len(self.trials(experiment_id))
            there = f"its trials are 1 to {count}" if count else "it has no trials yet"
            raise UsageError(f"Experiment {experiment_id} has no trial {trial_id}; {there}.")
        return found[0]

    def runs(self, experiment_id: int, trial_id: int) -> list[RunRow]:
        """The runs of a trial, first to last."""
        self.trial(experiment_id, trial_id)
        query = "SELECT * FROM runs WHERE experiment_id = ? AND trial_id = ? ORDER BY run"
        return self._rows(codec.RUNS.record, query, experiment_id, trial_id)

    def runs_of_live_trials(self, experiment_id: int) -> list[RunRow]:
        """The runs of all trials that have not ended, by trial and run."""
        query = (
            "SELECT runs.* FROM runs JOIN trials USING (experiment_id, trial_id) "  # noqa: S608
            f"WHERE experiment_id = ? AND state NOT IN ({_ENDED}) ORDER BY trial_id, run"
        )
        return self._rows(codec.RUNS.record, query, experiment_id)

    def metrics(self, experiment_id: int, trial_id: int, kind: str | None = None) -> list[MetricRow]:
        """The metrics of a trial in the order of training; `kind` "training", "validation" or "test", None: all.

        What an earlier run reported beyond the checkpoint that a later run went on from is left out.
        """
        self.trial(experiment_id, trial_id)
        query = (
            "SELECT * FROM metrics WHERE experiment_id = ? AND trial_id = ? AND kind IN (?, ?, ?) AND NOT superseded "
            "ORDER BY batches, id"
        )
        kinds = (kind,) * 3 if kind else ("training", "validation", "test")
        return self._rows(codec.METRICS.record, query, experiment_id, trial_id, *kinds)

    def histograms(self, experiment_id: int, trial_id: int, after: int = -1) -> list[HistogramRow]:
        """The histograms of a trial in the order of training; only those beyond `after` batches.

        A trial keeps a limited number of points, evenly spread; see `Transaction.add_histograms`.
        """
        self.trial(experiment_id, trial_id)
        query = "SELECT * FROM histograms WHERE experiment_id = ? AND trial_id = ? AND batches > ? ORDER BY batches"
        return self._rows(codec.HISTOGRAMS.record, query, experiment_id, trial_id, after)

    def checkpoints(self, experiment_id: int) -> list[CheckpointRow]:
        """The checkpoints of an experiment, deleted and damaged ones too, by trial and batches."""
        self.experiment(experiment_id)
        query = "SELECT * FROM checkpoints WHERE experiment_id = ? ORDER BY trial_id, batches, sequence"
        return self._rows(codec.CHECKPOINTS.record, query, experiment_id)

    def checkpoint(self, uuid: str) -> CheckpointRow:
        """The checkpoint of that id, or the only one whose id begins so."""
        query = "SELECT * FROM checkpoints WHERE substr(uuid, 1, length(?1)) = ?1 ORDER BY length(uuid), uuid LIMIT 6"
        found = self._rows(codec.CHECKPOINTS.record, query, uuid) if uuid else []
        if not found:
            raise UsageError(f"No checkpoint in {self._path} has the id '{uuid}' or an id that begins so.")
        if len(found) > 1 and found[0].uuid != uuid:
            raise UsageError(
                f"'{uuid}' is the beginning of several checkpoint ids: {', '.join(row.uuid for row in found)}. "
                "Give more of it."
            )
        return found[0]

    def ended_untidily(self) -> list[int]:
        """The experiments that have ended and of which checkpoints are still to be deleted, or to be verified."""
        query = (
            "SELECT id FROM experiments WHERE state IN ('COMPLETED', 'CANCELED', 'ERROR') AND id IN "
            "(SELECT experiment_id FROM checkpoints WHERE state = 'DELETING' OR state = 'COMPLETED' AND NOT verified) "
            "ORDER BY id"
        )
        return self._rows(lambda row: int(row[0]), query)

    def notices(self, experiment_id: int) -> list[NoticeRow]:
        """What was said to a person during an experiment, oldest first."""
        self.experiment(experiment_id)
        return self._rows(
            codec.NOTICES.record, "SELECT * FROM notices WHERE experiment_id = ? ORDER BY id", experiment_id
        )

    def decisions(self, experiment_id: int, after: int = 0) -> list[DecisionRow]:
        """What the searcher was told and what it decided, oldest first; only decisions with an id above `after`."""
        self.experiment(experiment_id)
        query = "SELECT * FROM decisions WHERE experiment_id = ? AND id > ? ORDER BY id"
        return self._rows(codec.DECISIONS.record, query, experiment_id, after)

    def last_decision(self, experiment_id: int) -> int:
        """The id of an experiment's newest decision; 0 for none."""
        query = "SELECT ifnull(max(id), 0) FROM decisions WHERE experiment_id = ?"
        return self._rows(lambda row: int(row[0]), query, experiment_id)[0]

    def each_decision(self, experiment_id: int, after: int = 0) -> Iterator[DecisionRow]:
        """As `decisions`, read piece by piece: few are held at once, however many there are."""
        self.experiment(experiment_id)
        query = "SELECT * FROM decisions WHERE experiment_id = ? AND id > ? ORDER BY id LIMIT ?"
        while piece := self._rows(codec.DECISIONS.record, query, experiment_id, after, _PIECE):
            yield from piece
            after = piece[-1].id

    def judged_units(self, experiment_id: int) -> dict[int, int]:
        """How far each trial was when the searcher was last told of a validation; without those it never was."""
        query = (
            "SELECT trial_id, max(units) FROM decisions WHERE experiment_id = ? AND event = 'validation_completed' "
            "GROUP BY trial_id"
        )
        return dict(self._rows(lambda row: (int(row[0]), int(row[1])), query, experiment_id))

    def shutdown_reason(self, experiment_id: int) -> str:
        """Why the searcher shut down before its time; empty: it did not, or did not say."""
        query = "SELECT * FROM decisions WHERE experiment_id = ? AND actions LIKE '%\"Shutdown\"%' ORDER BY id"
        for row in self._rows(codec.DECISIONS.record, query, experiment_id):
            for action in row.actions:
                if action["action"] == "Shutdown" and action.get("why"):
                    return str(action["why"])
        return ""

    def searcher(self, experiment_id: int) -> tuple[dict[str, Any], bool, int] | None:
        """The searcher's last snapshot, whether it had shut down, and the id of the last decision before it.

        None before the search began. The decisions after it are to be replayed.
        """
        query = "SELECT snapshot, shut_down, after FROM searchers WHERE experiment_id = ?"
        found = self._rows(lambda row: (json.loads(row["snapshot"]), bool(row[1]), int(row[2])), query, experiment_id)
        return found[0] if found else None

    def open_runs(self, experiment_id: int) -> list[RunRow]:
        """The runs that have not ended as far as the store knows."""
        query = "SELECT * FROM runs WHERE experiment_id = ? AND ended IS NULL ORDER BY trial_id, run"
        return self._rows(codec.RUNS.record, query, experiment_id)

    def holdings(self) -> Holdings:
        """Who holds what of this machine and who waits, those whose controller is gone included."""
        with translating(self._path):
            return leasing.read(self._connection)

    def last_command(self) -> int:
        """The number of the newest command of the store, taken or not; 0 for none."""
        return self._rows(lambda row: int(row[0]), "SELECT ifnull(max(id), 0) FROM commands")[0]

    def summary(self, experiment_id: int) -> dict[str, Any]:
        """What `create --json` and `describe --json` print: strict JSON values."""
        with translating(self._path):
            self._connection.execute("BEGIN")  # one state for all of it
        try:
            return summarize(self.experiment(experiment_id), self.trials(experiment_id))
        finally:
            self._connection.execute("ROLLBACK")

    def _rows(self, make: Callable[[sqlite3.Row], T], query: str, *values: object) -> list[T]:
        with translating(self._path):
            return [make(row) for row in self._connection.execute(query, values)]

    def _no_experiment(self, experiment_id: int) -> str:
        ids = [row.id for row in self.experiments()]
        if not ids:
            return f"There is no experiment {experiment_id}: {self.home} holds none yet."
        shown = ", ".join(map(str, ids[-10:]))
        more = f"{len(ids)} experiments, the last of them " if len(ids) > 10 else ""
        return f"There is no experiment {experiment_id} in {self.home}; there are: {more}{shown}."
