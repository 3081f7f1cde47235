"""One run on a Ray cluster, as the controller sees it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, final

from typing_extensions import override

from mnist_trials.events import Notice, Request, StopRequest, WorkersExited, WorkersLaunched, from_json
from mnist_trials.plugin import Deliver, WorkerHandle, WorkerSpec
from mnist_trials_plugins.launchers._ray_cluster import Cluster
from mnist_trials_plugins.launchers._ray_code import Code, Parcel
from mnist_trials_plugins.launchers._ray_crew import CannotStart, Crew, in_words
from mnist_trials_plugins.launchers._ray_share import Share
from mnist_trials_plugins.launchers._reasons import KILLED_BEFORE, not_started
from mnist_trials_plugins.launchers._run_log import RunLog

_LOOK_SECONDS: Final = 0.1  # how long the end of a hold may lie unseen
_EVENTS: Final = "events"
_OUTPUT: Final = "output"


@final
class RayHandle(WorkerHandle):
    """The workers of one run. A thread of its own starts them, asks them for what they say, and sees them end.

    What is public may be called from any thread; the rest runs on that thread, and so does `deliver`.
    """

    def __init__(
        self, specs: Sequence[WorkerSpec], cluster: Cluster, share: Share, code: Code, *, autoscaling: bool
    ) -> None:
        self._specs = tuple(specs)
        self._cluster = cluster
        self._code = code
        self._autoscaling = autoscaling
        self._crew = Crew(self._specs, share, cluster, check=self._check, say=self._say)
        self._lock = threading.RLock()
        self._under_way = False  # workers may exist: they are asked, and no longer simply called off
        self._over = False
        self._launched = False
        self._running: list[int] = []
        self._ended: set[int] = set()
        self._called_off: str | None = None
        self._held = False
        self._gone = threading.Event()
        self._codes: list[int | None] = [None] * len(self._specs)
        self._reason: str | None = None
        self._log = RunLog(self._specs, self._say)

    @override
    def start(self, deliver: Deliver) -> None:
        self._deliver = deliver
        threading.Thread(target=self._run, name="ray-run", daemon=True).start()

    @override
    def request(self, request: Request) -> None:
        with self._lock:
            if self._over:
                return
            if self._under_way:
                self._crew.request(request)
            elif isinstance(request, StopRequest):
                self._called_off = self._called_off or "asked to stop before it was started"

    @override
    def kill(self) -> None:
        with self._lock:
            if self._over:
                return
            self._called_off = KILLED_BEFORE
            if self._under_way:
                self._crew.kill()

    @override
    def hold_events(self, hold: bool) -> None:
        self._held = hold

    @override
    def join(self, timeout: float) -> bool:
        return self._gone.wait(timeout)

    def _run(self) -> None:
        try:
            self._log.open()
            self._start()
            self._attend()
        except CannotStart as error:
            self._reason = str(error)
        except OSError as error:
            self._reason = not_started(0, error)
        except Exception as error:  # what Ray raises differs by version, and nobody above could tell it
            self._reason = f"the Ray cluster failed: {type(error).__name__}: {in_words(error)}"
        self._finish()

    def _start(self) -> None:
        self._crew.gather(autoscaling=self._autoscaling)
        arguments = [
            (spec.to_json(), self._crew.variables(spec.rank), self._parcel(spec.rank)) for spec in self._crew.meet()
        ]
        with self._lock:
            self._check()
            self._under_way = True
        started = self._crew.start(arguments)
        failures = [
            f"rank {rank} could not be started: {each.failure}" for rank, each in enumerate(started) if each.failure
        ]
        self._running = [rank for rank, each in enumerate(started) if each.process is not None]
        if failures:
            self._reason = self._called_off or failures[0]
            self._crew.kill()
            return
        self._launched = True
        first = self._specs[0]
        processes = tuple(each.process for each in started if each.process is not None)
        self._deliver(WorkersLaunched(trial_id=first.trial_id, run=first.run, processes=processes))

    def _check(self) -> None:
        if self._called_off and not self._under_way:
            raise CannotStart(self._called_off)

    def _say(self, message: str) -> None:
        first = self._specs[0]
        self._deliver(Notice(trial_id=first.trial_id, run=first.run, message=message))

    def _parcel(self, rank: int) -> Parcel | None:
        """What a rank needs that does not see this machine's files."""
        if self._crew.places[rank].address == self._cluster.address:
            return None
        return self._code.parcel()

    def _attend(self) -> None:
        """Ask for events and output until every rank has ended and was heard."""
        import ray

        asked = {self._crew.listen(rank, each): (rank, each) for rank in self._running for each in (_EVENTS, _OUTPUT)}
        resting: set[int] = set()  # ranks whose events are not asked for
        while asked or resting:
            for rank in [rank for rank in resting if not self._held or rank in self._ended]:
                resting.discard(rank)
                asked[self._crew.listen(rank, _EVENTS)] = (rank, _EVENTS)
            answered, _ = ray.wait(list(asked), timeout=_LOOK_SECONDS if resting else None)
            for reference in answered:
                rank, stream = asked.pop(reference)
                if not self._hear(rank, stream, reference):
                    continue
                if stream == _EVENTS and self._held:
                    resting.add(rank)
                else:
                    asked[self._crew.listen(rank, stream)] = (rank, stream)

    def _hear(self, rank: int, stream: str, reference: Any) -> bool:
        """Take an answer; whether there is more to come."""
        import ray

        try:
            said, end = ray.get(reference)
        except Exception as error:  # the actor is no more: its process, its node, or the way to it
            self._on_lost(rank, error)
            return False
        if stream == _EVENTS:
            for document in said if self._launched else ():
                self._deliver(from_json(document))
            return not end
        self._on_output(rank, said)
        if end is None:
            return True
        self._codes[rank] = end
        self._on_ended(rank, well=end == 0)
        return False

    def _on_lost(self, rank: int, error: Exception) -> None:
        if rank not in self._ended:
            self._reason = self._reason or self._crew.lost(rank, error)
            self._on_ended(rank, well=False)

    def _on_ended(self, rank: int, *, well: bool) -> None:
        self._ended.add(rank)
        if not well and len(self._ended) < len(self._running):  # the others would wait for it for ever
            self._crew.kill()

    def _on_output(self, rank: int, data: bytes) -> None:
        self._log.take(rank, data)

    def _finish(self) -> None:
        with suppress(Exception):  # a cluster that is gone has nothing to be given back to
            self._crew.dismiss()
        self._log.close()
        with self._lock:
            self._over = True
        first = self._specs[0]
        self._deliver(
            WorkersExited(trial_id=first.trial_id, run=first.run, exit_codes=tuple(self._codes), reason=self._reason)
        )
        self._gone.set()
