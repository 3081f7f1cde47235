"""Processes that wait for jobs, so that many tests of several ranks pay once for starting Python and torch."""

from __future__ import annotations

import faulthandler
import multiprocessing
import pickle
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from mnist_trials.config import Mesh
from mnist_trials.plugin import Layout

DEADLINE = 240.0
"""Seconds that a job may take, on a machine that has other things to do."""

GRACE = 5.0
"""Seconds that the other ranks have when one has failed, unless they have a lot to do then."""

Job = Callable[..., Any]
"""Called in each rank's process with a `Layout`, the folder of the test, and the keywords of the test."""


class Broken(Exception):
    """A rank raised, or did not answer in time; the text has every rank's traceback."""


class Crew:
    """Up to as many ranks as it has processes work on one job after another."""

    def __init__(self, grace: float = GRACE) -> None:
        """`grace`: seconds that the other ranks have when one has failed."""
        self._grace = grace
        self._members: list[tuple[Any, Connection]] = []
        self._jobs = 0

    def run(self, job: Job, mesh: tuple[int, int], folder: Path, *, shard: bool = False, **keywords: Any) -> list[Any]:
        """What `job` returned on each rank of a mesh of (data, tensor) ranks."""
        self._jobs += 1
        folder.mkdir(parents=True, exist_ok=True)
        meeting = f"file://{folder}/rendezvous-{self._jobs}"
        size = mesh[0] * mesh[1]
        self._enlist(size)
        for rank in range(size):
            layout = Layout(
                rank=rank,
                mesh=Mesh(data=mesh[0], tensor=mesh[1]),
                shard=shard,
                rendezvous=meeting if size > 1 else "",
                start_seconds=DEADLINE,
            )
            self._members[rank][1].send_bytes(pickle.dumps((job, layout, folder, keywords)))
        answers = self._answers(size)
        if wrong := [f"rank {rank}: {text}" for rank, (done, text) in sorted(answers.items()) if not done]:
            self.dismiss()
            raise Broken("\n".join(wrong))
        return [answers[rank][1] for rank in range(size)]

    def _enlist(self, size: int) -> None:
        context = multiprocessing.get_context("spawn")
        while len(self._members) < size:
            ours, theirs = context.Pipe()
            process = context.Process(target=serve, args=(theirs,), daemon=True)
            process.start()
            theirs.close()
            self._members.append((process, ours))

    def _answers(self, size: int) -> dict[int, tuple[bool, Any]]:
        """What each rank says. Where one has failed, the others, which may wait for it, have no long time left."""
        waited_for = {self._members[rank][1]: rank for rank in range(size)}
        answers: dict[int, tuple[bool, Any]] = {}
        deadline = time.monotonic() + DEADLINE
        while waited_for:
            ready = wait(list(waited_for), max(0.0, deadline - time.monotonic()))
            if not ready:
                answers.update((rank, (False, "no answer in time")) for rank in waited_for.values())
                return answers
            for connection in ready:
                assert isinstance(connection, Connection)
                rank = waited_for.pop(connection)
                try:
                    answers[rank] = pickle.loads(connection.recv_bytes())
                except EOFError:
                    answers[rank] = False, "the process has ended"
                if not answers[rank][0]:
                    deadline = min(deadline, time.monotonic() + self._grace)
        return answers

    def dismiss(self) -> None:
        """End all processes."""
        for process, connection in self._members:
            connection.close()
            process.kill()
            process.join()
        self._members = []


def serve(connection: Connection) -> None:
    """The life of a member of the crew."""
    while True:
        try:
            job, layout, folder, keywords = pickle.loads(connection.recv_bytes())
        except EOFError:
            return
        faulthandler.dump_traceback_later(0.9 * DEADLINE)  # shows where a rank that never answers is stuck
        try:
            answer = True, job(layout, folder, **keywords)
        except Exception:
            answer = False, traceback.format_exc()
        faulthandler.cancel_dump_traceback_later()
        connection.send_bytes(pickle.dumps(answer))
