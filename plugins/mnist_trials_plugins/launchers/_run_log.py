"""The log of one run: what all its ranks print, each line marked with its rank where there are several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import final

from mnist_trials.plugin import WorkerSpec
from mnist_trials_plugins.launchers._log import LineMarker, RotatingLog
from mnist_trials_plugins.launchers._reasons import explain


@final
class RunLog:
    """Writes the output of a run's ranks to their trial's log. Not thread-safe.

    A log that cannot be written (a full disk) is no reason to end a trial: that is told once.
    """

    def __init__(self, specs: Sequence[WorkerSpec], say: Callable[[str], None]) -> None:
        """`say` tells a person."""
        self._path = Path(specs[0].log_path)
        self._say = say
        self._file: RotatingLog | None = None
        self._failed = False
        self._markers = {spec.rank: LineMarker(f"[rank={spec.rank}] ".encode()) for spec in specs if spec.size > 1}

    def open(self) -> None:
        """Open the file; nothing is written before.

        Raises:
            OSError: it cannot be opened.
        """
        self._file = RotatingLog(self._path)

    def take(self, rank: int, data: bytes) -> None:
        """Write what `rank` printed."""
        marker = self._markers.get(rank)
        self._write(marker.feed(data) if marker else data)

    def close(self) -> None:
        """Write the last lines, those without an end, and close the file."""
        for marker in self._markers.values():
            self._write(marker.finish())
        if self._file is not None:
            self._file.close()

    def _write(self, data: bytes) -> None:
        if self._file is None:
            return
        try:
            self._file.write(data)
        except OSError as error:
            if not self._failed:
                self._failed = True
                self._say(f"Output of the trial is lost, its log cannot be written: {explain(error)}")
