"""A controller apart from this process, without a terminal: on this machine, or where the launcher runs it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from mnist_trials.config import ExperimentConfig
from mnist_trials.errors import StoreError, UsageError
from mnist_trials.experiment.home import ExperimentFiles
from mnist_trials.experiment.lock import is_locked, locked_by
from mnist_trials.experiment.machinery import Workshop
from mnist_trials.plugin import get_plugins
from mnist_trials.store.rows import ExperimentRow

MODULE = "mnist_trials.experiment"
_PATIENCE_SECONDS = 60.0
_PATIENCE_ELSEWHERE_SECONDS = 180.0  # a cluster may have to find a place for it first
_LOOK_SECONDS = 0.02

_started: list[subprocess.Popen[bytes]] = []  # to be waited for when they have ended, so that no zombie stays


def start(home: Path, experiment: ExperimentRow) -> str:
    """Start a controller for the experiment; returns what to call it for a person, once it is in charge.

    Raises:
        UsageError: another process is its controller, or the new one could not take charge; the text has its words.
        PluginError: the launcher is to run it and cannot.
        StoreError: its log cannot be written.
    """
    files = ExperimentFiles(home, experiment.id)
    if is_locked(files.lock):
        raise UsageError(f"Experiment {experiment.id} is already being run by process {locked_by(files.lock)}.")
    command = [sys.executable, "-P", "-m", MODULE, str(home), str(experiment.id)]
    config = ExperimentConfig.from_dict(experiment.config)
    with closing(Workshop(get_plugins(), config, experiment.options).launcher()) as launcher:
        before = _holder(files)
        if (name := launcher.detach(command, {})) is None:
            return _start_here(command, files)
    _wait(lambda: _holder(files) != before, lambda: f"nothing is known of {name} yet", _PATIENCE_ELSEWHERE_SECONDS)
    return name


def _start_here(command: list[str], files: ExperimentFiles) -> str:
    try:
        log = files.controller_log.open("ab")
    except OSError as error:
        raise StoreError(f"{files.controller_log} cannot be written: {error.strerror}.") from error
    with log:
        begin = log.tell()
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    _wait_for_charge(process, files, begin)
    _started[:] = [earlier for earlier in (*_started, process) if earlier.poll() is None]
    return f"process {process.pid}"


def _wait_for_charge(process: subprocess.Popen[bytes], files: ExperimentFiles, begin: int) -> None:
    def in_charge() -> bool:
        status = process.poll()
        if status is not None and status != 0:
            raise _not_started(_words(files.controller_log, begin))
        return status == 0 or (is_locked(files.lock) and locked_by(files.lock) == str(process.pid))

    try:
        _wait(in_charge, lambda: _words(files.controller_log, begin), _PATIENCE_SECONDS)
    except UsageError:
        process.kill()
        process.wait()
        raise


def _wait(in_charge: Callable[[], bool], words: Callable[[], str], patience: float) -> None:
    """Wait until the controller is in charge, or has been."""
    deadline = time.monotonic() + patience
    while not in_charge():
        if time.monotonic() > deadline:
            raise _not_started(words())
        time.sleep(_LOOK_SECONDS)


def _not_started(words: str) -> UsageError:
    return UsageError(f"The controller did not start: {words}")


def _holder(files: ExperimentFiles) -> tuple[str, int]:
    """Tells one time that the lock was taken from another."""
    try:
        changed = files.lock.stat().st_mtime_ns
    except OSError:
        changed = 0
    return locked_by(files.lock), changed


def _words(log: Path, begin: int) -> str:
    with log.open("rb") as file:
        file.seek(begin)
        return file.read().decode("utf-8", "replace").strip() or f"it said nothing; see {log}"
