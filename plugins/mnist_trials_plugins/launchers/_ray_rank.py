"""One rank on its node: an actor that supervises the worker's process there, and is asked for what that says.

Plain Python, so that it can be read and tested without Ray; `_ray_crew` makes an actor of it. When the actor's process
ends, however it ends, a guard ends the worker with all it started. Where Ray does not notice that the controller cannot
reach the node any more, the actor does: it is not asked any longer.
"""

from __future__ import annotations

import fcntl
import getpass
import os
import shutil
import socket
import struct
import tarfile
import tempfile
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, final

from mnist_trials.events import Event, request_from_json, to_json
from mnist_trials.plugin import WorkerSpec
from mnist_trials.records import ProcessIdentity
from mnist_trials_plugins.launchers._meeting import free_port
from mnist_trials_plugins.launchers._pump import Pump
from mnist_trials_plugins.launchers._ray_code import Parcel, unpack
from mnist_trials_plugins.launchers._ray_guard import Guard
from mnist_trials_plugins.launchers._reasons import KILLED_BEFORE, explain
from mnist_trials_plugins.launchers._worker import Worker

SECONDS: Final = 10.0  # that a question waits for an answer
_MOST_EVENTS: Final = 128  # waiting to be asked for: then the worker's pipe is left alone until they were
_MOST_OUTPUT: Final = 4 * 2**20  # bytes, likewise
_DEVICES: Final = "CUDA_VISIBLE_DEVICES"
_UNASKED_SECONDS: Final = 120.0  # then the controller is out of reach, and starts the trial elsewhere
_ADDRESS_OF_INTERFACE: Final = 0x8915  # SIOCGIFADDR, `man 7 netdevice`


@final
@dataclass(frozen=True, slots=True)
class Place:
    """Where a rank has come to be."""

    node: str  # Ray's id of it
    address: str
    host: str
    interface: str | None  # that bears the address
    ports: tuple[int, int]  # nobody listens there


@final
@dataclass(frozen=True, slots=True)
class Started:
    """How a start went: the worker's process, or why there is none."""

    process: ProcessIdentity | None
    failure: str | None = None


@final
class Rank:
    """The actor. `start`, `request`, `kill`, `events` and `output` are called from a thread each."""

    def __init__(self) -> None:
        self._pump = Pump()
        self._starting = threading.Lock()
        self._changed = threading.Condition()
        self._worker: Worker | None = None
        self._killed = False
        self._events: deque[dict[str, Any]] = deque()
        self._output = bytearray()
        self._is_full = False
        self._ended = False
        self._own_folder: Path | None = None
        self._guard: Guard | None = None  # lives with this process
        self._asked = time.monotonic()

    def version(self) -> str:
        """That of mnist-trials on this node."""
        import mnist_trials

        return mnist_trials.__version__

    def place(self) -> Place:
        """Where this is.

        Raises:
            OSError: no port is free.
        """
        import ray

        address = ray.util.get_node_ip_address()
        first = second = free_port(address)
        while second == first:
            second = free_port(address)
        node = ray.get_runtime_context().get_node_id()
        return Place(node, address, socket.gethostname(), _interface_of(address), (first, second))

    def start(self, document: Mapping[str, Any], variables: Mapping[str, str], parcel: Parcel | None) -> Started:
        """Start the worker; with a `parcel` it is not on the controller's machine, and gets folders of this one."""
        try:
            spec = _with_devices(WorkerSpec.from_json(document))
            if parcel is not None:
                spec = self._moved(spec, parcel)
            self._guard = Guard("MNIST_TRIALS_RAY_RANK")
            with self._starting:
                if self._killed:
                    return Started(None, KILLED_BEFORE)
                self._worker = Worker(spec, {**variables, **self._guard.variables})
        except (OSError, ValueError, TypeError, tarfile.TarError) as error:
            self._remove_folder()
            return Started(None, explain(error))
        worker = self._worker
        self._asked = time.monotonic()
        threading.Thread(target=self._watch_for_questions, name="questions", daemon=True).start()
        self._pump.call(lambda: worker.watch(self._pump, self._on_output, self._on_event, self._on_ended))
        return Started(worker.identity)

    def request(self, document: Mapping[str, Any]) -> None:
        """Pass a request on to the worker."""
        if self._worker is not None:
            self._worker.request(request_from_json(document))

    def kill(self) -> None:
        """End the worker with all it started, or see that it never starts."""
        with self._starting:
            self._killed = True
            if self._worker is not None:
                self._worker.kill()

    def events(self) -> tuple[list[dict[str, Any]], bool]:
        """What the worker has said since it was last asked for, and whether that is all there will be."""
        with self._changed:
            self._changed.wait_for(lambda: self._events or self._ended, SECONDS)
            said = list(self._events)
            self._events.clear()
            if self._is_full:
                self._is_full = False
                self._pump.call(self._listen)
            return said, self._ended

    def output(self) -> tuple[bytes, int | None]:
        """What the worker has printed since it was last asked for; its exit code, once that is all."""
        with self._changed:
            self._changed.wait_for(lambda: self._output or self._ended, SECONDS)
            self._asked = time.monotonic()
            printed = bytes(self._output)
            self._output.clear()
            self._changed.notify_all()
            return printed, self._worker.exit_code if self._ended and self._worker else None

    def _watch_for_questions(self) -> None:
        with self._changed:
            while not self._changed.wait_for(lambda: self._ended, SECONDS):
                if time.monotonic() - self._asked > _UNASKED_SECONDS:
                    break
        self.kill()

    def _moved(self, spec: WorkerSpec, parcel: Parcel) -> WorkerSpec:
        root = Path(tempfile.gettempdir(), f"mnist-trials-{getpass.getuser()}")
        root.mkdir(mode=0o700, exist_ok=True)
        if root.stat().st_uid != os.getuid():
            raise PermissionError(f"{root} belongs to somebody else")
        context = unpack(parcel, root / "contexts")
        self._own_folder = Path(tempfile.mkdtemp(dir=root, prefix=f"trial-{spec.experiment_id}.{spec.trial_id}-"))
        return replace(spec, context_dir=str(context), trial_dir=str(self._own_folder))

    def _remove_folder(self) -> None:
        if self._own_folder is not None:
            shutil.rmtree(self._own_folder, ignore_errors=True)

    def _listen(self) -> None:
        assert self._worker is not None
        self._worker.hold_events(False)

    def _on_event(self, event: Event) -> None:
        with self._changed:
            self._events.append(to_json(event))
            if len(self._events) >= _MOST_EVENTS and not self._is_full and self._worker is not None:
                self._is_full = True
                self._worker.hold_events(True)
            self._changed.notify_all()

    def _on_output(self, data: bytes) -> None:
        with self._changed:
            # The one thread there is waits, so the worker's next words wait with its output.
            self._changed.wait_for(lambda: len(self._output) < _MOST_OUTPUT)
            self._output += data
            self._changed.notify_all()

    def _on_ended(self, _exit_code: int) -> None:
        assert self._worker is not None
        self._worker.sweep(self._on_gone)

    def _on_gone(self) -> None:
        self._remove_folder()
        with self._changed:
            self._ended = True
            self._changed.notify_all()


def _with_devices(spec: WorkerSpec) -> WorkerSpec:
    """Ray has chosen the devices, and not by the numbers of the controller's machine."""
    if _DEVICES not in spec.environment:
        return spec
    return replace(spec, environment={**spec.environment, _DEVICES: os.environ.get(_DEVICES, "")})


def _interface_of(address: str) -> str | None:
    """The network interface that bears an IPv4 address."""
    if address.startswith("127."):
        return "lo"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(any_socket, _ADDRESS_OF_INTERFACE, struct.pack("256s", name.encode()))
            except OSError:  # it bears none
                continue
            if socket.inet_ntoa(answer[20:24]) == address:
                return name
    return None
