"""How the ranks of a run find each other: our own rendezvous, and torchrun's variables for scripts that use those."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from mnist_trials.plugin import WorkerSpec

LOOPBACK: Final = "127.0.0.1"
_INTERFACES: Final = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


def meeting_by_file(specs: Sequence[WorkerSpec]) -> tuple[WorkerSpec, ...]:
    """`specs` with a rendezvous in the trial's folder, for ranks that see the same files; one rank needs none."""
    if len(specs) == 1:
        return tuple(specs)
    first = specs[0]
    url = _file(first).as_uri()
    return tuple(replace(spec, rendezvous=url) for spec in specs)


def clear_meeting(spec: WorkerSpec) -> None:
    """Remove the file that the ranks of `spec`'s run meet by, or a leftover of the same name."""
    if spec.size > 1:
        _file(spec).unlink(missing_ok=True)


def _file(spec: WorkerSpec) -> Path:
    return Path(spec.trial_dir, f"rendezvous-{spec.run}").absolute()


def torchrun_variables(
    spec: WorkerSpec, address: str, port: int, *, local_rank: int, local_size: int, group_rank: int = 0
) -> dict[str, str]:
    """What torchrun sets in the environment of a rank. `address` and `port`: where rank 0 may listen.

    `group_rank` numbers the machines. A command that is run once for all slots of its trial is no rank and gets none.
    """
    if len(spec.slots) > 1:
        return {}
    return {
        "RANK": str(spec.rank),
        "WORLD_SIZE": str(spec.size),
        "LOCAL_RANK": str(local_rank),
        "LOCAL_WORLD_SIZE": str(local_size),
        "GROUP_RANK": str(group_rank),
        "MASTER_ADDR": address,
        "MASTER_PORT": str(port),
    }


def one_machine_variables(spec: WorkerSpec, port: int) -> dict[str, str]:
    """Variables of a rank whose trial is all on this machine: torchrun's, and to speak over no other interface."""
    interfaces = {name: "lo" for name in _INTERFACES if name not in os.environ}
    return interfaces | torchrun_variables(spec, LOOPBACK, port, local_rank=spec.rank, local_size=spec.size)


def free_port(address: str = LOOPBACK) -> int:
    """A TCP port that nobody listens on now.

    Raises:
        OSError: there is none, or `address` is not of this machine.
    """
    with socket.create_server((address, 0)) as server:
        port: int = server.getsockname()[1]
        return port
