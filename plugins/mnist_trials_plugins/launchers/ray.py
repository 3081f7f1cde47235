"""The launcher `ray`: each rank of a trial on a node of a Ray cluster.

    launcher:
      name: ray
      address: auto          # or HOST:PORT of a cluster; left out: a cluster of this machine alone, ended with its user
      cpus_per_slot: 2       # 1 if left out
      autoscaling: true      # false if left out

A slot is `cpus_per_slot` CPUs of a node, and one GPU where the backend is `cuda`. The slots of a trial are reserved
together (a placement group), so all of its ranks start or none. `autoscaling` says that the cluster grows when more is
asked for than is there; then as many slots are offered as an experiment can use, and trials wait for their nodes.

mnist-trials must be installed on every node, in the same version. The code of an experiment is sent to the nodes.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

from typing_extensions import override

from mnist_trials.errors import PluginError
from mnist_trials.plugin import (
    Launcher,
    Options,
    PluginRecord,
    WorkerHandle,
    WorkerSpec,
    hookimpl,
    refuse_unknown,
    text_option,
)
from mnist_trials.records import Slot

if TYPE_CHECKING:
    from mnist_trials_plugins.launchers._ray_cluster import Cluster
    from mnist_trials_plugins.launchers._ray_code import Code

_SELF: Final = "the launcher 'ray'"


@final
class RayLauncher(Launcher):
    """Starts workers on the nodes of one cluster; connects to it when it is first needed."""

    def __init__(self, address: str | None, cpus_per_slot: float, autoscaling: bool) -> None:
        self._address = address
        self._cpus_per_slot = cpus_per_slot
        self._autoscaling = autoscaling
        self._connected: Cluster | None = None
        self._codes: dict[str, Code] = {}

    @override
    def create(self, workers: Sequence[WorkerSpec]) -> WorkerHandle:
        from mnist_trials_plugins.launchers._ray_code import Code
        from mnist_trials_plugins.launchers._ray_run import RayHandle
        from mnist_trials_plugins.launchers._ray_share import Share

        share = Share(workers[0].slot.backend, self._cpus_per_slot)
        context = workers[0].context_dir
        code = self._codes.setdefault(context, Code(Path(context)))
        return RayHandle(workers, self._cluster(), share, code, autoscaling=self._autoscaling)

    @override
    def slots(self, backend: str, wanted: int, per_trial: int) -> tuple[Slot, ...]:
        from mnist_trials_plugins.launchers._ray_share import Share, offer

        share = Share(backend, self._cpus_per_slot)
        cluster = self._cluster()
        return offer(share, cluster.name, cluster.nodes(), wanted, per_trial, autoscaling=self._autoscaling)

    @property
    @override
    def leaves_machine(self) -> bool:
        if self._address is None:
            return False
        cluster = self._cluster()
        return self._autoscaling or any(node.address != cluster.address for node in cluster.nodes())

    @override
    def detach(self, command: Sequence[str], environment: Mapping[str, str]) -> str | None:
        if self._address is None:  # it would end with this process
            return None
        from mnist_trials_plugins.launchers._ray_job import submit_job

        return submit_job(self._cluster(), command, environment)

    @override
    def close(self) -> None:
        if self._connected is not None:
            self._connected.leave(self)
            self._connected = None

    def _cluster(self) -> Cluster:
        from mnist_trials_plugins.launchers._ray_cluster import join_cluster

        if self._connected is None:
            self._connected = join_cluster(self._address, self)
        return self._connected


def create(options: Options) -> Launcher:
    """The launcher with the options `address`, `cpus_per_slot` and `autoscaling`.

    Raises:
        PluginError: an option is unknown or cannot be so.
    """
    refuse_unknown(_SELF, options, ("address", "autoscaling", "cpus_per_slot"))
    address = text_option(_SELF, options, "address")
    autoscaling = options.get("autoscaling", False)
    if not isinstance(autoscaling, bool):
        raise PluginError(f"'autoscaling' of {_SELF} must be true or false, not {autoscaling!r}.")
    if autoscaling and address is None:
        raise PluginError(
            f"'autoscaling' of {_SELF} needs an 'address': a cluster that it starts itself is this machine alone."
        )
    if address is not None:
        _check_address(address)
    return RayLauncher(address, _cpus_per_slot(options), autoscaling)


def _cpus_per_slot(options: Options) -> float:
    cpus: Any = options.get("cpus_per_slot", 1)
    if isinstance(cpus, bool) or not isinstance(cpus, int | float) or not 0 < cpus < float("inf"):
        raise PluginError(f"'cpus_per_slot' of {_SELF} must be a number above 0, not {cpus!r}.")
    return float(cpus)


def _check_address(address: str) -> None:
    if address.startswith("ray://"):
        raise PluginError(
            f"{_SELF.capitalize()} cannot work through a Ray Client server ({address}): the controller must run on a "
            "node of the cluster, with `address: auto`. docs/cluster.md shows how to submit it there."
        )
    host, _, port = address.rpartition(":")
    if address != "auto" and not (host and port.isdecimal() and 0 < int(port) < 65_536):
        raise PluginError(f"'address' of {_SELF} must be `auto` or HOST:PORT, such as 10.0.0.5:6379, not {address!r}.")


def available() -> str | None:
    """Why it cannot be used here, or None."""
    if importlib.util.find_spec("ray") is None:
        return "the package ray is not installed; install it with: pip install 'mnist-trials[ray]'"
    return None


@hookimpl
def mnist_trials_launchers() -> Iterable[PluginRecord[Launcher]]:
    """The plugin's record."""
    return [PluginRecord("ray", "On the nodes of a Ray cluster, or of one started here", create, available)]
