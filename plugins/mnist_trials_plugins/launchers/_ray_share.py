"""What a slot takes of a Ray node, and how many slots a cluster has. Pure; imports nothing of Ray's."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor
from typing import final

from typing_extensions import override

from mnist_trials.errors import PluginError
from mnist_trials.records import Slot

_SLACK = 1e-6  # Ray counts fractions of a CPU in ten-thousandths


@final
@dataclass(frozen=True, slots=True)
class Node:
    """A node of a cluster that is alive."""

    id: str
    address: str
    host: str
    resources: Mapping[str, float]  # all it has, whoever uses it: "CPU", "GPU", ...


@final
class Share:
    """What one slot takes of a node.

    Raises:
        PluginError: Ray does not know devices of the kind `backend`.
    """

    def __init__(self, backend: str, cpus: float) -> None:
        if backend not in ("cpu", "cuda"):
            raise PluginError(
                f"The launcher 'ray' has slots for the backends cpu and cuda, not for '{backend}'. Use one of them, or "
                "`launcher: local`."
            )
        self.backend = backend
        self.cpus = cpus
        self.gpus = int(backend == "cuda")

    def bundle(self, slots: int) -> dict[str, float]:
        """What `slots` slots on one node take, as Ray writes it."""
        bundle = {"CPU": self.cpus * slots, "GPU": float(self.gpus * slots)}
        return {name: amount for name, amount in bundle.items() if amount}

    def fitting(self, node: Node) -> int:
        """How many slots the node has when nobody uses it."""
        needs = self.bundle(1)
        return min(floor(node.resources.get(name, 0.0) / amount + _SLACK) for name, amount in needs.items())

    def fits(self, bundles: Sequence[int], nodes: Sequence[Node], *, single_node: bool) -> bool:
        """Whether the nodes, were they free, could hold ranks of so many slots each."""
        room = sorted((self.fitting(node) for node in nodes), reverse=True)
        if single_node:
            return bool(room) and sum(bundles) <= room[0]
        for wanted in sorted(bundles, reverse=True):
            place = next((index for index, free in enumerate(room) if free >= wanted), None)
            if place is None:
                return False
            room[place] -= wanted
        return True

    def times(self, count: int) -> str:
        """So many slots, for a person."""
        return f"a slot of {self}" if count == 1 else f"{count} slots of {self} each"

    @override
    def __str__(self) -> str:
        cpus = f"{self.cpus:g} CPU" if self.cpus == 1 else f"{self.cpus:g} CPUs"
        return f"1 GPU with {cpus}" if self.gpus else cpus


def offer(
    share: Share, cluster: str, nodes: Sequence[Node], wanted: int, per_trial: int, *, autoscaling: bool
) -> tuple[Slot, ...]:
    """The slots of a cluster for one experiment, at most `wanted`; see `Launcher.slots`. They are on no certain node.

    Raises:
        PluginError: a trial takes more than there are.
    """
    there = sum(map(share.fitting, nodes))
    if there < per_trial and not autoscaling:
        raise PluginError(
            f"a trial takes {share.times(per_trial)}, but {cluster} has {there}: {describe(nodes)}. Ask for "
            "less, add nodes, or say `autoscaling: true` if the cluster grows when more is asked for."
        )
    grows = autoscaling and wanted < sys.maxsize  # else all that are there now are asked for
    count = max(wanted, per_trial) if grows else min(wanted, there)
    return tuple(
        Slot(
            id=f"ray:{index}",
            backend=share.backend,
            index=index,
            description=f"{share} of {cluster}",
            threads=max(1, floor(share.cpus + _SLACK)),
            host="ray",
        )
        for index in range(count)
    )


def describe(nodes: Sequence[Node]) -> str:
    """The nodes and what they have, for a person."""
    return "; ".join(map(_described, sorted(nodes, key=lambda node: node.address))) or "no node"


def _described(node: Node) -> str:
    has = ", ".join(f"{node.resources[name]:g} {name}s" for name in ("CPU", "GPU") if node.resources.get(name))
    return f"{node.address} with {has or 'neither CPU nor GPU'}"
