"""Gives rank 0 this rank's parts of a checkpoint while training goes on."""

from __future__ import annotations

from threading import Event, Thread
from typing import final

from mnist_trials.checkpoint import Parts
from mnist_trials.plugin import Line


@final
class Serving:
    """A thread that serves rank 0 until it has written the checkpoint, or given it up.

    Attributes:
        error: what went wrong, once `wait` returns True. Rank 0 cannot write the checkpoint then.
    """

    def __init__(self, parts: Parts, line: Line) -> None:
        self.error: BaseException | None = None
        self._parts = parts
        self._line = line
        self._over = Event()
        Thread(target=self._run, name="serve-checkpoint", daemon=True).start()

    def wait(self, seconds: float | None) -> bool:
        """Whether it is over, within `seconds`."""
        return self._over.wait(seconds)

    def _run(self) -> None:
        try:
            self._parts.serve(self._line)
        except BaseException as error:  # raised again in the thread that trains
            self.error = error
            self._line.close()  # or rank 0 would wait for ever
        self._over.set()
