"""Opening the store's file, and what can go wrong with it, in words."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from mnist_trials.errors import StoreError
from mnist_trials.store.network import network_file_system
from mnist_trials.store.schema import APPLICATION_ID, MIGRATIONS, VERSION

FILE_NAME = "store.sqlite"
_BUSY_SECONDS = 30.0
_OLDEST_SQLITE = (3, 37, 0)  # STRICT tables

_IN_WORDS = {
    "SQLITE_FULL": "the disk is full; free some space and try again",
    "SQLITE_READONLY": "it cannot be written; check the permissions of the folder and the file",
    "SQLITE_CANTOPEN": "it cannot be opened; check the permissions of the folder and the file",
    "SQLITE_PERM": "access is denied; check the permissions of the folder and the file",
    "SQLITE_NOTADB": "it is not a SQLite database; move it away, or choose another home with --home",
    "SQLITE_CORRUPT": "the file is damaged; restore it from a backup, or choose another home with --home",
    "SQLITE_BUSY": f"another process has kept it locked for {_BUSY_SECONDS:.0f} seconds",
    "SQLITE_LOCKED": "another process keeps it locked",
    "SQLITE_IOERR": "reading or writing failed; the disk is full, at a quota, or broken",
}


@contextmanager
def translating(path: Path) -> Iterator[None]:
    """Turns what SQLite raises into a StoreError that says what to do."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        name = getattr(error, "sqlite_errorname", "")
        family = "_".join(name.split("_")[:2])
        reason = _IN_WORDS.get(family)
        if reason is None:
            raise
        raise StoreError(f"The store {path} cannot be used: {reason} ({error}).") from error


def open_for_writing(home: Path) -> sqlite3.Connection:
    """A connection that may write, with every migration done; makes the home and the store where there are none.

    Raises:
        StoreError: the home or the store cannot be used; nothing of it was changed.
    """
    _require_sqlite()
    _make_home(home)
    _refuse_network(home)
    path = home / FILE_NAME
    _make_private(path)
    with translating(path):
        connection = _connect(path, "rwc")
        try:
            if _check_version(connection, path) < VERSION:
                _migrate(connection, path)
            connection.execute("PRAGMA foreign_keys = ON")
        except BaseException:
            connection.close()
            raise
    return connection


def _make_private(path: Path) -> None:
    """Make the file where there is none, for its owner alone: configs may hold secrets. SQLite's others follow it."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError:
        return  # it is there, or SQLite says what is wrong


def open_for_reading(home: Path) -> sqlite3.Connection:
    """A read-only connection; to an empty store where there is none yet.

    Raises:
        StoreError: the store cannot be used.
    """
    _require_sqlite()
    path = home / FILE_NAME
    if not _exists(path):
        _require_folder(home)
        return _empty()
    _refuse_network(home)
    with translating(path):
        connection = _connect_reader(path)
        version = _check_version(connection, path)
        if version == VERSION:
            return connection
        connection.close()
        open_for_writing(home).close()
        return _connect_reader(path)


def _connect_reader(path: Path) -> sqlite3.Connection:
    connection = _connect(path, "ro")
    try:
        connection.execute("PRAGMA schema_version")
    except sqlite3.OperationalError:
        connection.close()
        # A folder that cannot be written has no place for SQLite's shared memory. Without a log beside the file nobody
        # is writing, so it may be read as it lies.
        if os.access(path.parent, os.W_OK) or path.with_name(f"{FILE_NAME}-wal").exists():
            raise
        connection = _connect(path, "ro&immutable=1")
    return connection


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"file:{quote(str(path))}?mode={mode}", uri=True, timeout=_BUSY_SECONDS, isolation_level=None
    )


def _empty() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    _migrate(connection, Path(":memory:"))
    return connection


def _check_version(connection: sqlite3.Connection, path: Path) -> int:
    # In one statement, so that they are of one state: another process may be making the store.
    version, application, tables = connection.execute(
        "SELECT user_version, application_id, (SELECT count(*) FROM sqlite_master) "
        "FROM pragma_user_version, pragma_application_id"
    ).fetchone()
    if application != APPLICATION_ID and (application or version or tables):
        raise StoreError(
            f"{path} is a database of another program. Choose another home with --home (or MNIST_TRIALS_HOME)."
        )
    if version > VERSION:
        raise StoreError(
            f"The store {path} has version {version}; this mnist-trials knows versions up to {VERSION}. "
            "Use the newer mnist-trials that wrote it, or another home with --home (or MNIST_TRIALS_HOME)."
        )
    return int(version)


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    _use_wal(connection)
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Asked again under the lock: another process may have done it in between.
        for statements in MIGRATIONS[_check_version(connection, path) :]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _use_wal(connection: sqlite3.Connection) -> None:
    """Change to WAL mode. While another process does the same SQLite gives up at once instead of waiting."""
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _require_sqlite() -> None:
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        wanted = ".".join(map(str, _OLDEST_SQLITE))
        raise StoreError(f"SQLite {wanted} or newer is needed; this Python has {sqlite3.sqlite_version}.")


def _require_folder(home: Path) -> None:
    """A home that is not there yet is fine, unless a file stands in its way."""
    there = next(path for path in (home, *home.parents) if path.exists())
    if not there.is_dir():
        raise StoreError(_home_problem(home, f"{there} is not a folder"))


def _make_home(home: Path) -> None:
    try:
        _require_folder(home)
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(_home_problem(home, error.strerror or str(error))) from error
    if not os.access(home, os.W_OK | os.X_OK):
        raise StoreError(_home_problem(home, "it is not writable"))


def _home_problem(home: Path, reason: str) -> str:
    return f"The home {home} cannot be used: {reason}. Choose another one with --home (or MNIST_TRIALS_HOME)."


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise StoreError(_home_problem(path.parent, error.strerror or str(error))) from error


def _refuse_network(home: Path) -> None:
    if kind := network_file_system(home):
        raise StoreError(
            f"The home {home} lies on a network file system ({kind}), where a database can be damaged. Choose a home "
            "on a local disk with --home (or MNIST_TRIALS_HOME); checkpoints may lie on the network: "
            "`checkpoint_storage: {type: shared_fs, host_path: ...}`."
        )
