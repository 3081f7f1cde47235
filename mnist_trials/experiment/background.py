"""A controller in a process of its own, without a terminal."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from mnist_trials.errors import StoreError, UsageError
from mnist_trials.experiment.home import ExperimentFiles
from mnist_trials.experiment.lock import is_locked, locked_by

MODULE = "mnist_trials.experiment"
_PATIENCE_SECONDS = 60.0
_LOOK_SECONDS = 0.02

_started: list[subprocess.Popen[bytes]] = []  # to be waited for when they have ended, so that no zombie stays


def start(home: Path, experiment_id: int) -> int:
    """Start a controller for the experiment; returns its process id once it is in charge.

    Raises:
        UsageError: another process is its controller, or the new one could not take charge; the text has its words.
        StoreError: its log cannot be written.
    """
    files = ExperimentFiles(home, experiment_id)
    if is_locked(files.lock):
        raise UsageError(f"Experiment {experiment_id} is already being run by process {locked_by(files.lock)}.")
    try:
        log = files.controller_log.open("ab")
    except OSError as error:
        raise StoreError(f"{files.controller_log} cannot be written: {error.strerror}.") from error
    with log:
        begin = log.tell()
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-P", "-m", MODULE, str(home), str(experiment_id)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    _wait_for_charge(process, files, begin)
    _started[:] = [earlier for earlier in (*_started, process) if earlier.poll() is None]
    return process.pid


def _wait_for_charge(process: subprocess.Popen[bytes], files: ExperimentFiles, begin: int) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not (is_locked(files.lock) and locked_by(files.lock) == str(process.pid)):
        status = process.poll()
        if status == 0:
            return  # done already
        if status is not None or time.monotonic() > deadline:
            process.kill()
            process.wait()
            raise UsageError(f"The controller did not start: {_words(files.controller_log, begin)}")
        time.sleep(_LOOK_SECONDS)


def _words(log: Path, begin: int) -> str:
    with log.open("rb") as file:
        file.seek(begin)
        return file.read().decode("utf-8", "replace").strip() or f"it said nothing; see {log}"
