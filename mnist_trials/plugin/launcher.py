"""What a launcher is: a way to start the workers of a trial, carry their events, and end them.

It knows nothing of searching, training or storing.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, final

from typing_extensions import override

from mnist_trials.events import Event, GoOn, Request, StopRequest
from mnist_trials.records import Mode, Slot


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """All a worker process knows. Plain JSON values, so that it travels by any road (see `to_json`)."""

    experiment_id: int
    trial_id: int
    run: int  # attempt of this trial, from 1
    rank: int
    size: int  # ranks of this trial
    slots: tuple[Slot, ...]  # of this rank: one; all of the trial's for one process or one command that has them all
    config: Mapping[str, Any]  # the resolved experiment config: `ExperimentConfig.to_dict()`
    hparams: Mapping[str, Any]
    seed: int  # the trial's seed, a function of (experiment seed, trial id)
    context_dir: str  # the snapshot of the user's code: on sys.path, working directory of commands
    trial_dir: str  # a folder of this trial's own, kept between runs
    log_path: str  # where a launcher writes what the worker prints
    checkpoint_root: str  # where checkpoints lie when the config names no storage
    checkpoints: tuple[str, ...] = ()  # this trial's checkpoint ids, newest first, to go on from; () = from the start
    warm_start: str | None = None  # a checkpoint to take weights from when there is none of its own
    resume: bool = False  # all of the state of `warm_start` is taken, not the weights alone
    validate_at: tuple[int, ...] = ()  # where to validate, whatever the periods; in the unit of searcher.max_length
    until: int | None = None  # how far to train before asking (see TrialHeld), in that unit; None: to the end
    data_root: str | None = None
    started_in: str | None = None  # the directory in which the experiment was submitted; None: this process's own
    test_mode: bool = False
    mode: Mode = "train_and_eval"  # "eval": `warm_start` is evaluated, and nothing else
    owner: str = ""  # how the ids of this experiment's checkpoints end; empty: its checkpoints are not told apart
    environment: Mapping[str, str] = field(default_factory=dict)
    python: str | None = None  # the interpreter of the process, a path where it runs; None: the launcher's own
    rendezvous: str = ""  # where the ranks meet, a URL as torch.distributed reads it; a launcher of several sets it
    target: str = "mnist_trials.worker.main:run"  # what to call in the process: a function of (WorkerSpec, Channel)

    @property
    def slot(self) -> Slot:
        """The first slot of this rank."""
        return self.slots[0]

    def to_json(self) -> dict[str, Any]:
        """As strict JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> WorkerSpec:
        """The spec behind `to_json`'s document.

        Raises:
            ValueError: fields are missing or left over.
        """
        values = dict(document)
        if left_over := set(values) - {f.name for f in fields(cls)}:
            raise ValueError(f"a worker spec has no field {sorted(left_over)}")
        values["slots"] = tuple(Slot(**slot) for slot in values["slots"])
        for name in ("checkpoints", "validate_at"):
            values[name] = tuple(values.get(name, ()))
        try:
            return cls(**values)
        except TypeError as error:
            raise ValueError(str(error)) from error


class Channel(ABC):
    """The worker's end of the line to the controller."""

    @abstractmethod
    def emit(self, event: Event) -> None:
        """Send an event; returns when it is on its way.

        A line that is cut ends the worker: nobody is there to listen, what it does from now on would be lost.
        """

    @abstractmethod
    def stop_requested(self) -> StopRequest | None:
        """What the controller asked for, or None. Cheap enough to be called after every batch."""

    def wait_for_word(self) -> Request:
        """Wait for the answer to a `TrialHeld` that was just emitted; each answer is returned once.

        A `StopRequest` counts as the answer whenever it was sent. A line that is cut ends the worker, as in `emit`.
        Where there is no controller, nobody says no.
        """
        return GoOn()


@final
class Quiet(Channel):
    """Nobody hears what is said, and nobody asks for anything."""

    @override
    def emit(self, event: Event) -> None:
        return

    @override
    def stop_requested(self) -> StopRequest | None:
        return None


Deliver = Callable[[Event], None]
"""Given to a launcher to hand events over; may be called from any thread, never blocks for long."""


class WorkerHandle(ABC):
    """All the workers of one run of a trial. Thread-safe."""

    @abstractmethod
    def start(self, deliver: Deliver) -> None:
        """Start every rank or none.

        After this, every event is handed to `deliver` in the order in which its worker sent it, and `WorkersExited`
        exactly once, as the last. A start that fails is told in that event too, never raised. A launcher that works in
        this very process returns when the trial has ended.
        """

    @abstractmethod
    def request(self, request: Request) -> None:
        """Pass a request on to every rank; no effect when they are gone. May be called within `deliver` too."""

    @abstractmethod
    def kill(self) -> None:
        """End every process of the run at once, with all they started."""

    def hold_events(self, hold: bool) -> None:
        """Leave unread from now on what the workers say (`hold`), or read it again.

        Asked for when more is said than can be stored: once their line is full, `Channel.emit` waits. What was read
        before may still be delivered; requests, output, the workers' end and `WorkersExited` are not held up. May be
        called from any thread, within `deliver` too, and must not wait. A launcher that does nothing here lets events
        pile up in the controller's memory.
        """

    @abstractmethod
    def join(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds for all of it to be gone; whether it is."""


class Launcher(ABC):
    """Starts workers."""

    @abstractmethod
    def create(self, workers: Sequence[WorkerSpec]) -> WorkerHandle:
        """A handle for one run of a trial, one spec per rank; nothing is started yet.

        Where there are several, the launcher gives each the same `rendezvous`, which no other run has.
        """

    def slots(self, backend: str, wanted: int, per_trial: int) -> tuple[Slot, ...] | None:
        """The slots that this launcher has elsewhere, for devices of the kind `backend`; None: it uses this machine's.

        At most `wanted`, which is as many as the experiment can use; a trial takes `per_trial` of them at once. Where
        the one trial is to have all that are there now, `wanted` is `sys.maxsize`.

        Raises:
            PluginError: so many as a trial takes are not to be had, ever; the text says what is there.
        """
        return None

    @property
    def starts_processes(self) -> bool:
        """Whether a worker is a process of its own, started by the interpreter and with the variables of its spec."""
        return True

    @property
    def several_ranks(self) -> bool:
        """Whether a run may have several specs; trials that take several are refused by a launcher that says no."""
        return True

    @property
    def leaves_machine(self) -> bool:
        """Whether workers may run on machines that do not see the files of this one."""
        return False

    def detach(self, command: Sequence[str], environment: Mapping[str, str]) -> str | None:
        """Have `command`, the controller of an experiment, run where the workers do, apart from this process.

        Returns what to call it for a person; None: this launcher does not do that, and the controller is started as a
        process of this machine.

        Raises:
            PluginError: it cannot be run there; the text says why.
        """
        return None

    def close(self) -> None:
        """Release what the launcher itself holds; no worker is running any more."""


def resolve_target(spec: WorkerSpec) -> Callable[[WorkerSpec, Channel], int]:
    """The function `spec.target` names; it returns the exit status of the worker."""
    module, _, function = spec.target.partition(":")
    return getattr(importlib.import_module(module), function)  # type: ignore[no-any-return]
