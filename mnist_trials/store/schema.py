"""The tables, as numbered migrations: `PRAGMA user_version` is how many of them a store has had.

A migration that was released is never changed; a new one is added behind it.
"""

from __future__ import annotations

APPLICATION_ID = 0x4D545231  # "MTR1", so that another program's database is told from ours

# `sequence` numbers the transactions of the whole store: a row carries the number of the one that last changed it, so
# that a reader that has seen everything up to n asks for `sequence > n`.
_FIRST = (
    """
    CREATE TABLE counter (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        value INTEGER NOT NULL
    ) STRICT
    """,
    "INSERT INTO counter VALUES (1, 0)",
    """
    CREATE TABLE experiments (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL,
        state TEXT NOT NULL,
        config TEXT NOT NULL,
        options TEXT NOT NULL,
        progress REAL NOT NULL DEFAULT 0,
        message TEXT NOT NULL DEFAULT '',
        created REAL NOT NULL,
        ended REAL,
        wall_seconds REAL NOT NULL DEFAULT 0,
        sequence INTEGER NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE searchers (
        experiment_id INTEGER PRIMARY KEY REFERENCES experiments ON DELETE CASCADE,
        snapshot TEXT NOT NULL,
        shut_down INTEGER NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE trials (
        experiment_id INTEGER NOT NULL REFERENCES experiments ON DELETE CASCADE,
        trial_id INTEGER NOT NULL,
        state TEXT NOT NULL,
        hparams TEXT NOT NULL,
        seed INTEGER NOT NULL,
        batches INTEGER NOT NULL,
        epochs REAL NOT NULL,
        records INTEGER NOT NULL,
        total_batches INTEGER,
        restarts INTEGER NOT NULL,
        stopped_early INTEGER NOT NULL,
        dataset TEXT NOT NULL,
        dataset_fallback INTEGER NOT NULL,
        best_metric REAL,
        best_batches INTEGER,
        best_metrics TEXT NOT NULL,
        best_checkpoint TEXT,
        latest_checkpoint TEXT,
        error TEXT,
        message TEXT NOT NULL,
        judged_batches INTEGER NOT NULL,
        stop_requested INTEGER NOT NULL,
        sequence INTEGER NOT NULL,
        PRIMARY KEY (experiment_id, trial_id)
    ) STRICT
    """,
    "CREATE INDEX trials_by_sequence ON trials (sequence)",
    """
    CREATE TABLE runs (
        experiment_id INTEGER NOT NULL,
        trial_id INTEGER NOT NULL,
        run INTEGER NOT NULL,
        outcome TEXT,
        start_batches INTEGER NOT NULL,
        batches INTEGER NOT NULL,
        backend TEXT NOT NULL,
        device TEXT NOT NULL,
        slots TEXT NOT NULL,
        exit_codes TEXT NOT NULL,
        error TEXT,
        started REAL NOT NULL,
        ended REAL,
        processes TEXT NOT NULL,
        sequence INTEGER NOT NULL,
        PRIMARY KEY (experiment_id, trial_id, run),
        FOREIGN KEY (experiment_id, trial_id) REFERENCES trials ON DELETE CASCADE
    ) STRICT
    """,
    """
    CREATE TABLE metrics (
        id INTEGER PRIMARY KEY,
        experiment_id INTEGER NOT NULL,
        trial_id INTEGER NOT NULL,
        run INTEGER NOT NULL,
        kind TEXT NOT NULL,
        batches INTEGER NOT NULL,
        epochs REAL NOT NULL,
        records INTEGER NOT NULL,
        metrics TEXT NOT NULL,
        seconds REAL NOT NULL,
        time REAL NOT NULL,
        superseded INTEGER NOT NULL DEFAULT 0,
        sequence INTEGER NOT NULL,
        FOREIGN KEY (experiment_id, trial_id) REFERENCES trials ON DELETE CASCADE
    ) STRICT
    """,
    "CREATE INDEX metrics_by_trial ON metrics (experiment_id, trial_id, kind, batches)",
    "CREATE INDEX metrics_by_sequence ON metrics (sequence)",
    """
    CREATE TABLE checkpoints (
        uuid TEXT PRIMARY KEY,
        experiment_id INTEGER NOT NULL,
        trial_id INTEGER NOT NULL,
        run INTEGER NOT NULL,
        state TEXT NOT NULL,
        batches INTEGER NOT NULL,
        epochs REAL NOT NULL,
        records INTEGER NOT NULL,
        metrics TEXT NOT NULL,
        bytes INTEGER NOT NULL,
        location TEXT NOT NULL,
        created REAL NOT NULL,
        sequence INTEGER NOT NULL,
        FOREIGN KEY (experiment_id, trial_id) REFERENCES trials ON DELETE CASCADE
    ) STRICT
    """,
    "CREATE INDEX checkpoints_by_trial ON checkpoints (experiment_id, trial_id, batches)",
    """
    CREATE TABLE notices (
        id INTEGER PRIMARY KEY,
        experiment_id INTEGER NOT NULL REFERENCES experiments ON DELETE CASCADE,
        trial_id INTEGER,
        message TEXT NOT NULL,
        time REAL NOT NULL,
        sequence INTEGER NOT NULL
    ) STRICT
    """,
    "CREATE INDEX notices_by_experiment ON notices (experiment_id)",
    """
    CREATE TABLE decisions (
        id INTEGER PRIMARY KEY,
        experiment_id INTEGER NOT NULL REFERENCES experiments ON DELETE CASCADE,
        trial_id INTEGER,
        event TEXT NOT NULL,
        units INTEGER,
        metric REAL,
        actions TEXT NOT NULL,
        time REAL NOT NULL,
        sequence INTEGER NOT NULL
    ) STRICT
    """,
    "CREATE INDEX decisions_by_experiment ON decisions (experiment_id)",
    """
    CREATE TABLE commands (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        experiment_id INTEGER NOT NULL REFERENCES experiments ON DELETE CASCADE,
        command TEXT NOT NULL,
        time REAL NOT NULL,
        taken REAL
    ) STRICT
    """,
    "CREATE INDEX commands_waiting ON commands (experiment_id) WHERE taken IS NULL",
)

# Trials that a searcher pauses, or starts from another's weights; a searcher's state as a snapshot and what came after.
_SEARCHES = (
    "ALTER TABLE trials ADD COLUMN until INTEGER",
    "ALTER TABLE trials ADD COLUMN resting INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE trials ADD COLUMN source_trial INTEGER",
    "ALTER TABLE trials ADD COLUMN source_batches INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE decisions ADD COLUMN reason TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE searchers ADD COLUMN after INTEGER NOT NULL DEFAULT 0",
    """
    UPDATE searchers SET after = ifnull(
        (SELECT max(id) FROM decisions WHERE decisions.experiment_id = searchers.experiment_id), 0
    )
    """,
    "DROP INDEX decisions_by_experiment",
    "CREATE INDEX decisions_by_experiment ON decisions (experiment_id, id)",
)

# What experiments hold of the machine, and which of them wait for more. A row counts while its experiment has a
# controller: that one holds a lock, which ends with it.
_LEASES = (
    """
    CREATE TABLE leases (
        unit TEXT PRIMARY KEY,
        experiment_id INTEGER NOT NULL REFERENCES experiments ON DELETE CASCADE,
        trial_id INTEGER NOT NULL,
        run INTEGER NOT NULL
    ) STRICT
    """,
    "CREATE INDEX leases_by_experiment ON leases (experiment_id)",
    """
    CREATE TABLE waiting (
        experiment_id INTEGER PRIMARY KEY REFERENCES experiments ON DELETE CASCADE,
        trial_id INTEGER NOT NULL,
        place INTEGER NOT NULL,
        since REAL NOT NULL,
        slots INTEGER NOT NULL,
        units TEXT NOT NULL,
        text TEXT NOT NULL
    ) STRICT
    """,
)

# Whether a checkpoint was read again where it lies. Of those that are there nobody relies on that any more.
_VERIFIED = (
    "ALTER TABLE checkpoints ADD COLUMN verified INTEGER NOT NULL DEFAULT 0",
    "UPDATE checkpoints SET verified = 1",
)

# What `watch` asks for. `content` is compressed JSON.
_HISTOGRAMS = (
    """
    CREATE TABLE histograms (
        id INTEGER PRIMARY KEY,
        experiment_id INTEGER NOT NULL,
        trial_id INTEGER NOT NULL,
        run INTEGER NOT NULL,
        batches INTEGER NOT NULL,
        epochs REAL NOT NULL,
        records INTEGER NOT NULL,
        content BLOB NOT NULL,
        time REAL NOT NULL,
        sequence INTEGER NOT NULL,
        UNIQUE (experiment_id, trial_id, batches),
        FOREIGN KEY (experiment_id, trial_id) REFERENCES trials ON DELETE CASCADE
    ) STRICT
    """,
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (_FIRST, _SEARCHES, _LEASES, _VERIFIED, _HISTOGRAMS)

VERSION = len(MIGRATIONS)
