"""A real Ray cluster on addresses of this machine that nobody else reaches, for all tests of a process."""

from __future__ import annotations

import atexit
import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mnist_trials_plugins.launchers._meeting import free_port

HERE = "127.0.0.1"
ELSEWHERE = "127.0.0.2"  # a node with another address does not share files with the controller, as far as anybody knows
_STORE_BYTES = 80 * 2**20
_QUICK_TO_NOTICE = {"health_check_period_ms": 1000, "health_check_failure_threshold": 3}


class RayCluster:
    """A head with two CPUs; nodes may join and be killed."""

    def __init__(self, *, dashboard: bool = False) -> None:
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # before ray is imported: 127.0.0.1 means just that
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        from ray.cluster_utils import Cluster

        head: dict[str, Any] = {
            "num_cpus": 2,
            "node_ip_address": HERE,
            "include_dashboard": dashboard,
            "dashboard_agent_listen_port": free_port(),  # jobs are taken there, and a second cluster needs another
            "object_store_memory": _STORE_BYTES,
            "_system_config": _QUICK_TO_NOTICE,
        }
        self._cluster: Any = Cluster(initialize_head=True, head_node_args=head)
        self.address: str = self._cluster.address

    @contextmanager
    def another(self, address: str = ELSEWHERE, cpus: int = 1) -> Iterator[Any]:
        """A further node for the time of a `with` block; gives what `kill` takes."""
        node = self._cluster.add_node(num_cpus=cpus, node_ip_address=address, object_store_memory=_STORE_BYTES)
        try:
            yield node
        finally:
            if node in self._cluster.worker_nodes:
                self._cluster.remove_node(node, allow_graceful=False)

    def kill(self, node: Any) -> None:
        """SIGKILL to the node's raylet."""
        (raylet,) = node.all_processes["raylet"]
        raylet.process.kill()
        raylet.process.wait()  # as the one who started it would: Ray's processes take a zombie for alive

    def stop(self) -> None:
        """End every process of it."""
        import ray

        ray.shutdown()
        self._cluster.shutdown()


@functools.cache
def shared() -> RayCluster:
    """The cluster of this process, without a dashboard; ends with the process."""
    cluster = RayCluster()
    atexit.register(cluster.stop)
    return cluster
