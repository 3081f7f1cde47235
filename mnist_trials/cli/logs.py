"""`logs`: what a trial's workers printed, followed through rotation until the trial has ended."""

from __future__ import annotations

import argparse
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, final

from mnist_trials.cli import lookup
from mnist_trials.cli.command import Command, Invocation
from mnist_trials.errors import UsageError

_POLL_SECONDS = 0.2


def _logs(call: Invocation) -> int:
    from mnist_trials.experiment.home import ExperimentFiles

    with lookup.reading(call) as reader:
        trial = lookup.find_trial(reader, call.arguments.trial)
    path = ExperimentFiles(call.home, trial.experiment_id).trial_log(trial.trial_id)
    if not call.arguments.follow:
        if not log_files(path):
            raise UsageError(f"trial {trial.experiment_id}.{trial.trial_id} has printed nothing yet ({path})")
        ended: Callable[[], bool] = _at_once
    else:
        ended = _Ended(call, trial.experiment_id, trial.trial_id)
    for piece in follow(path, ended):
        call.screen.raw(piece)
    return 0


def log_files(path: Path) -> list[Path]:
    """The files that hold the log at `path`, oldest first: `log.txt.2`, `log.txt.1`, `log.txt`."""
    found = []
    for entry in path.parent.glob(f"{path.name}*"):
        if entry == path:
            found.append((0, entry))
        elif match := re.fullmatch(re.escape(path.name) + r"\.([0-9]+)", entry.name):
            found.append((int(match[1]), entry))
    return [entry for _, entry in sorted(found, reverse=True)]


def follow(path: Path, ended: Callable[[], bool]) -> Iterator[bytes]:
    """The content of the log at `path`, and what is added to it until `ended` and all of it is read.

    A file that is rotated away meanwhile is read to its end first.
    """
    current: IO[bytes] | None = None
    while True:
        over = ended()  # asked before reading, so that what was written before the end is read
        if current is not None:
            yield from _pieces(current)
        newer = _opened_after(current, path)
        for file in newer:
            if current is not None:
                yield from _pieces(current)  # what was written between the last look and its being rotated away
                current.close()
            current = file
            yield from _pieces(current)
        if over and not newer:
            break
        if not newer:
            time.sleep(_POLL_SECONDS)
    if current is not None:
        current.close()


@final
class _Ended:
    """Whether nothing more will be printed: the trial has ended, or nobody runs its experiment."""

    def __init__(self, call: Invocation, experiment_id: int, trial_id: int) -> None:
        self._call = call
        self._experiment_id = experiment_id
        self._trial_id = trial_id

    def __call__(self) -> bool:
        from mnist_trials.experiment import api

        alive = api.is_alive(self._experiment_id, home=self._call.home)
        with lookup.reading(self._call) as reader:
            return not alive or reader.trial(self._experiment_id, self._trial_id).state.ended


def _opened_after(current: IO[bytes] | None, path: Path) -> list[IO[bytes]]:
    """The files of the log that are newer than `current`, oldest first; all of them if it is not there any more."""
    files = _opened(path)
    known = [number for number, file in enumerate(files) if current is not None and _is_same(file, current)]
    newer = known[-1] + 1 if known else 0
    for file in files[:newer]:
        file.close()
    return files[newer:]


def _opened(path: Path) -> list[IO[bytes]]:
    """All files of the log, oldest first."""
    while True:
        names = log_files(path)
        files: list[IO[bytes]] = []
        with suppress(FileNotFoundError):  # rotated in between
            files.extend(name.open("rb") for name in names)
            if log_files(path) == names and all(map(_is_at, files, names)):
                return files
        for file in files:
            file.close()


def _is_at(file: IO[bytes], name: Path) -> bool:
    return os.path.samestat(os.fstat(file.fileno()), name.stat())


def _is_same(one: IO[bytes], other: IO[bytes]) -> bool:
    return os.path.samestat(os.fstat(one.fileno()), os.fstat(other.fileno()))


def _at_once() -> bool:
    return True


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(1 << 16):
        yield piece


def _arguments(parser: argparse.ArgumentParser) -> None:
    lookup.add_trial(parser)
    parser.add_argument("--follow", "-f", action="store_true", help="go on until the trial has ended")


COMMANDS = (
    Command(
        name="logs",
        group="Look",
        summary="what a trial printed, every run and rank",
        run=_logs,
        configure=_arguments,
        json=False,
    ),
)
