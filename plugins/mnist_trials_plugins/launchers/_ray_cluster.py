"""This process's connection to a Ray cluster. Ray allows one, so all launchers of a process share it."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, Final, final
from weakref import WeakSet

from mnist_trials.errors import PluginError
from mnist_trials_plugins.launchers._ray_guard import Guard
from mnist_trials_plugins.launchers._ray_share import Node

_REACHED_WITHIN: Final = 5.0  # seconds; Ray itself would try for minutes
_STORE_BYTES: Final = 128 * 2**20  # of a cluster of our own: it holds nothing but code
_LEFT_ALONE: Final = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # 127.0.0.1 is to mean just that
    "RAY_ENABLE_AUTO_CONNECT": "0",  # nothing connects by itself again when the connection has ended
}
_OF_OUR_OWN: Final = _LEFT_ALONE | {"RAY_USAGE_STATS_ENABLED": "0"}

_logger = logging.getLogger(__name__)
_lock = threading.Lock()
_current: Cluster | None = None


@final
class Cluster:
    """The cluster that this process is connected to.

    Attributes:
        name: what a person calls it.
        address: of the node that this process runs on, as the nodes' addresses.
        dashboard: host and port of its dashboard; empty where there is none.
    """

    def __init__(self, asked: str | None, dashboard: str, *, ours: bool, guard: Guard | None = None) -> None:
        import ray

        self.asked = asked
        self.dashboard = dashboard
        self._ours = ours
        self._guard = guard  # of a cluster that was started here
        self._users: WeakSet[object] = WeakSet()
        here = ray.get_runtime_context().get_node_id()
        self.address = next(node.address for node in self.nodes() if node.id == here)
        where = ray.get_runtime_context().gcs_address
        self.name = f"the Ray cluster at {where}" if asked else "the Ray cluster of this machine"

    def nodes(self) -> list[Node]:
        """The nodes that are alive."""
        import ray

        return [
            Node(node["NodeID"], node["NodeManagerAddress"], node["NodeManagerHostname"], node["Resources"])
            for node in ray.nodes()
            if node["Alive"]
        ]

    def add(self, user: object) -> None:
        """Count `user` among those who use the connection, until it leaves or is no more."""
        self._users.add(user)

    def leave(self, user: object) -> None:
        """The last to leave ends the connection, and the cluster if it was started here."""
        with _lock:
            self._users.discard(user)
            if not self._users:
                self._end()

    def _end(self) -> None:
        import ray

        global _current  # noqa: PLW0603 - Ray has one connection per process
        if _current is self:
            _current = None
            if self._ours:
                with _own_signals():
                    ray.shutdown()
            if self._guard is not None:
                self._guard.release()

    def replaced_by(self, asked: str | None) -> None:
        """Make room for a connection to another cluster.

        Raises:
            PluginError: this one is in use.
        """
        if self._users:
            raise PluginError(f"This process works with {self.name}; Ray allows no second one, such as {asked!r}.")
        self._end()


def join_cluster(address: str | None, user: object) -> Cluster:
    """The cluster at `address` (HOST:PORT or `auto`); for None one that is started on this machine, on 127.0.0.1.

    A process that is connected already, by whomever, stays so.

    Raises:
        PluginError: it cannot be reached, or is used by this process for something else.
    """
    global _current  # noqa: PLW0603 - Ray has one connection per process
    with _lock:
        if _current is not None and _current.asked != address:
            _current.replaced_by(address)
        if _current is None:
            try:
                _current = _connect(address)
            except PluginError:
                raise
            except Exception as error:  # what Ray raises here differs by version: OSError, RuntimeError, ValueError
                where = "No Ray cluster could be started here" if address is None else f"No Ray cluster at '{address}'"
                hint = "" if address is None else " Is it running, and is this one of its nodes (`ray status`)?"
                raise PluginError(f"{where}: {type(error).__name__}: {error}.{hint}") from error
        _current.add(user)
        return _current


def _connect(address: str | None) -> Cluster:
    with _environment(_LEFT_ALONE if address else _OF_OUR_OWN), _quiet(), _own_signals():
        import ray

        if ray.is_initialized():  # by a program that we are a part of: the connection is its own
            return Cluster(address, "", ours=False)
        if address is None:
            return _start_one()
        _require_reachable(address)
        _keep_off_stdout()
        context = ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        return Cluster(address, context.dashboard_url or "", ours=True)


def _start_one() -> Cluster:
    import ray

    guard = Guard("MNIST_TRIALS_RAY_CLUSTER")
    _keep_off_stdout()
    try:
        with _environment(guard.variables):
            ray.init(
                address="local",
                include_dashboard=False,
                object_store_memory=_STORE_BYTES,
                log_to_driver=False,
                logging_level="ERROR",
            )
        guard.look()
        return Cluster(None, "", ours=True, guard=guard)
    except BaseException:
        guard.release()
        raise


def _keep_off_stdout() -> None:
    """Have Ray log what its daemons report, such as the loss of a node, where it would print that on standard output.

    Ray has no option for this. Where another version of it has no such function, it prints as ever.
    """
    from ray._private import worker

    if hasattr(worker, "print_to_stdstream"):
        worker.print_to_stdstream = _log_reports


def _log_reports(data: Mapping[str, Any], **_: object) -> None:
    _logger.debug("%s: %s", data.get("pid"), "\n".join(map(str, data.get("lines", ()))))


def _require_reachable(address: str) -> None:
    known = _found() if address == "auto" else address
    if known is None:
        return  # Ray says that there is none
    host, _, port = known.rpartition(":")
    try:
        socket.create_connection((host, int(port)), _REACHED_WITHIN).close()
    except (OSError, ValueError) as error:
        found = f" (`auto` found {known})" if address == "auto" else ""
        raise PluginError(
            f"No Ray cluster answers at '{address}'{found}: {error}. Start one with `ray start --head`, or leave "
            "`address` out for one on this machine that ends with the experiment."
        ) from error


def _found() -> str | None:
    """What `auto` stands for: the variable, or the file that `ray start` writes."""
    if named := os.environ.get("RAY_ADDRESS"):
        return None if named in ("auto", "local") else named
    try:
        return Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "ray_current_cluster").read_text().strip()  # noqa: S108 - where Ray looks
    except OSError:
        return None


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Ray's advice to its own users off the screen, and what it prints off standard output, which is ours."""
    with warnings.catch_warnings(), redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore", FutureWarning)
        yield


@contextmanager
def _own_signals() -> Iterator[None]:
    """Put back the handlers of signals that Ray replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before: list[Any] = [signal.getsignal(number) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
