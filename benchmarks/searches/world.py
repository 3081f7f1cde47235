"""A launcher and slots that are made up: the workers' events come one by one, in this thread, when they are asked for.

`World` takes the place of the controller's inbox. Everything else of the controller is as it is.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, final

from typing_extensions import override

from mnist_trials.events import (
    CheckpointSaved,
    Event,
    GoOn,
    Request,
    StopRequest,
    TrialExited,
    TrialHeld,
    TrialStarted,
    ValidationCompleted,
    WorkersExited,
    WorkersLaunched,
)
from mnist_trials.plugin import (
    Backend,
    Deliver,
    Execution,
    ExecutionSettings,
    Launcher,
    PluginRecord,
    WorkerHandle,
    WorkerSpec,
    hookimpl,
)
from mnist_trials.records import CheckpointInfo, Outcome, Slot
from searches.workload import LENGTH, SLOTS, metric


class CutOff(BaseException):
    """The controller dies here."""


@final
class World:
    """The runs that are on, in turn; and the CPU time that passes between handing out an event and the next request."""

    def __init__(self, validations: int | None = None) -> None:
        self.left = validations  # until the controller dies; None: it does not
        self.runs: deque[Run] = deque()
        self.counts: Counter[str] = Counter()
        self.seconds: Counter[str] = Counter()
        self.asked_first: tuple[float, float] | None = None  # CPU and wall time when an event was first waited for
        self._kind = "begin"
        self._since = time.process_time()

    def get(self, timeout: float) -> list[Event]:
        """The next event of the run whose turn it is."""
        now = time.process_time()
        self.seconds[self._kind] += now - self._since
        if self.asked_first is None:
            self.asked_first = now, time.perf_counter()
        if self.left == 0:
            raise CutOff
        run = self.runs.popleft()
        event = next(run.events)
        if not isinstance(event, WorkersExited):
            self.runs.append(run)
        self._kind = type(event).__name__
        self.counts[self._kind] += 1
        if self.left is not None and isinstance(event, ValidationCompleted):
            self.left -= 1
        self._since = time.process_time()
        return [event]

    def wake(self) -> None:
        """Nobody ever sleeps."""


@final
class Run(WorkerHandle):
    """One run of a trial."""

    def __init__(self, world: World, spec: WorkerSpec) -> None:
        self._world = world
        self._spec = spec
        self._word: Request | None = None
        self.events = self._live()

    @override
    def start(self, deliver: Deliver) -> None:
        self._world.runs.append(self)

    @override
    def request(self, request: Request) -> None:
        self._word = request

    @override
    def kill(self) -> None: ...

    @override
    def join(self, timeout: float) -> bool:
        return True

    def _live(self) -> Iterator[Event]:
        spec = self._spec
        who: dict[str, Any] = {"trial_id": spec.trial_id, "run": spec.run}
        start = int(spec.checkpoints[0].rpartition("-")[2]) if spec.checkpoints else 0
        yield WorkersLaunched(**who)
        yield TrialStarted(
            **who, pid=1, host="nowhere", backend="made_up", device="none", batches=start, checkpoint=None
        )
        units, until, outcome = start, spec.until, Outcome.COMPLETED
        for units in (point for point in spec.validate_at if point > start):
            value = metric(spec.trial_id, units)
            yield ValidationCompleted(
                **who, batches=units, epochs=units / 100, records=units * 64, metrics={"loss": value}, seconds=0.1
            )
            if units == until and units < LENGTH:
                yield self._saved(who, units, value)
                yield TrialHeld(**who, batches=units)
                word, self._word = self._word, None
                if isinstance(word, StopRequest):
                    outcome = word.outcome
                    break
                assert isinstance(word, GoOn)
                until = word.until
            elif isinstance(self._word, StopRequest):
                outcome = self._word.outcome
                break
        if units != until or units == LENGTH:
            yield self._saved(who, units, metric(spec.trial_id, units))
        yield TrialExited(**who, outcome=outcome, batches=units)
        yield WorkersExited(**who, exit_codes=(0,))

    def _saved(self, who: Mapping[str, Any], units: int, value: float) -> CheckpointSaved:
        uuid = f"{self._spec.trial_id}-{units}"
        return CheckpointSaved(
            **who,
            checkpoint=CheckpointInfo(
                uuid=uuid,
                batches=units,
                epochs=units / 100,
                records=units * 64,
                metrics={"loss": value},
                bytes=1000,
                location="nowhere",
            ),
        )


@final
class MadeUpLauncher(Launcher):
    """Starts runs in the world of the day."""

    world: World

    @override
    def create(self, workers: Sequence[WorkerSpec]) -> WorkerHandle:
        return Run(self.world, workers[0])


@final
class MadeUpBackend(Backend):
    """Slots for as many trials as may run at once."""

    @override
    def slots(self, count: int | None) -> tuple[Slot, ...]:
        return tuple(
            Slot(id=f"made_up:{i}", backend="made_up", index=i, description="", threads=1)
            for i in range(count or SLOTS)
        )

    @override
    def environment(self, slots: Sequence[Slot]) -> Mapping[str, str]:
        return {}

    @override
    def open(self, settings: ExecutionSettings) -> Execution:
        raise NotImplementedError


class Plugins:
    """What is registered with the plugin manager."""

    @hookimpl
    def mnist_trials_launchers(self) -> Iterable[PluginRecord[Launcher]]:
        return [PluginRecord("made_up", "for benchmarks", lambda options: MadeUpLauncher())]

    @hookimpl
    def mnist_trials_backends(self) -> Iterable[PluginRecord[Backend]]:
        return [PluginRecord("made_up", "for benchmarks", lambda options: MadeUpBackend())]
