"""The actors of one run: placed together, asked together, ended together."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, final

from mnist_trials.events import Request, request_to_json
from mnist_trials.plugin import WorkerSpec
from mnist_trials_plugins.launchers._meeting import torchrun_variables
from mnist_trials_plugins.launchers._ray_cluster import Cluster
from mnist_trials_plugins.launchers._ray_rank import Place, Rank, Started
from mnist_trials_plugins.launchers._ray_share import Share, describe

_LOOK_SECONDS: Final = 0.2  # how long a kill may lie unseen while there is nothing to be asked
_PATIENCE_SECONDS: Final = 5.0  # without a word to a person
MISSING_SECONDS: Final = 300.0  # that a cluster may be too small for a run, as after the loss of a node
_GROUPS: Final = {"start": 1, "requests": 1, "kill": 1, "events": 1, "output": 1}  # a thread each


@final
class CannotStart(Exception):
    """The ranks are not going to run; the text is for a person."""


@final
class Crew:
    """One actor per rank. `request` and `kill` are for every thread, the rest for one.

    `check` is called again and again while something is waited for and may raise CannotStart; `say` tells a person.
    """

    def __init__(
        self,
        specs: Sequence[WorkerSpec],
        share: Share,
        cluster: Cluster,
        *,
        check: Callable[[], None],
        say: Callable[[str], None],
    ) -> None:
        self._specs = specs
        self._share = share
        self._cluster = cluster
        self._check = check
        self._say = say
        self._group: Any = None
        self.actors: list[Any] = []
        self.places: list[Place] = []

    def gather(self, *, autoscaling: bool) -> None:
        """Reserve the slots and set an actor on each.

        Raises:
            CannotStart: the cluster stays too small, or a node has no or another mnist-trials.
        """
        self._check()
        self._reserve(autoscaling)
        self._place()
        self._compare_versions()
        self.places = self._ask("place")

    def meet(self) -> list[WorkerSpec]:
        """The specs with the address at which the ranks meet: a free port on the node of rank 0."""
        if len(self._specs) == 1:
            return list(self._specs)
        first = self.places[0]
        url = f"tcp://{_in_url(first.address)}:{first.ports[0]}"
        return [replace(spec, rendezvous=url) for spec in self._specs]

    def variables(self, rank: int) -> dict[str, str]:
        """Variables of a rank: torchrun's, and the network interface to speak over."""
        place, first = self.places[rank], self.places[0]
        nodes = list(dict.fromkeys(other.node for other in self.places))
        sizes = Counter(other.node for other in self.places)
        interfaces = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME") if place.interface else ()
        return {name: str(place.interface) for name in interfaces} | torchrun_variables(
            self._specs[rank],
            first.address,
            first.ports[1],
            local_rank=sum(other.node == place.node for other in self.places[:rank]),
            local_size=sizes[place.node],
            group_rank=nodes.index(place.node),
        )

    def start(self, arguments: Sequence[Sequence[Any]]) -> list[Started]:
        """Start every worker; `arguments` of `Rank.start` by rank. What goes wrong is in the answers."""
        import ray

        answers = self._answers("start", arguments)
        started: list[Started] = []
        for rank, answer in enumerate(answers):
            try:
                started.append(ray.get(answer))
            except Exception as error:  # the actor is no more
                started.append(Started(None, self.lost(rank, error)))
        return started

    def listen(self, rank: int, stream: str) -> Any:
        """A reference to what `events` or `output` of a rank will answer."""
        return getattr(self.actors[rank], stream).options(concurrency_group=stream).remote()

    def request(self, request: Request) -> None:
        """Pass a request on to every rank."""
        document = request_to_json(request)
        for actor in self.actors:
            actor.request.options(concurrency_group="requests").remote(document)

    def kill(self) -> None:
        """Have every worker ended; what they answer tells when they have."""
        for actor in self.actors:
            actor.kill.options(concurrency_group="kill").remote()

    def dismiss(self) -> None:
        """End the actors and give the slots back."""
        import ray
        from ray.util import remove_placement_group

        for actor in self.actors:
            ray.kill(actor)
        if self._group is not None:
            remove_placement_group(self._group)

    def lost(self, rank: int, error: Exception) -> str:
        """Why a rank does not answer any more, for a person."""
        what = in_words(error)
        if rank >= len(self.places):
            return f"rank {rank} could not be placed: {what}"
        place = self.places[rank]
        node = f"node {place.address} ({place.host}, {place.node[:12]})"
        if place.node not in {alive.id for alive in self._cluster.nodes()}:
            return f"{node} was lost with rank {rank}"
        return f"rank {rank} was lost on {node}: {what}"

    def _ask(self, method: str) -> list[Any]:
        import ray

        return list(ray.get(self._answers(method, [()] * len(self.actors))))

    def _answers(self, method: str, arguments: Sequence[Sequence[Any]]) -> list[Any]:
        """References to the answers of all ranks, which are there."""
        import ray

        answers = [
            getattr(actor, method).options(concurrency_group="start").remote(*values)
            for actor, values in zip(self.actors, arguments, strict=True)
        ]
        waiting = answers
        while waiting:
            _, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=_LOOK_SECONDS)
            self._check()
        return answers

    def _reserve(self, autoscaling: bool) -> None:
        from ray.util import placement_group

        ranks = [len(spec.slots) for spec in self._specs]
        resources = self._specs[0].config.get("resources") or {}
        single = bool(resources.get("is_single_node"))
        self._group = placement_group(
            [self._share.bundle(slots) for slots in ranks], strategy="STRICT_PACK" if single else "PACK"
        )
        amount = self._share.times(sum(ranks))
        began, has_said, missing_since = time.monotonic(), False, 0.0
        while not self._group.wait(_LOOK_SECONDS):
            self._check()
            now, nodes = time.monotonic(), self._cluster.nodes()
            if autoscaling or self._share.fits(ranks, nodes, single_node=single):
                missing_since = 0.0
            else:
                missing_since = missing_since or now
            if missing_since and now - missing_since > MISSING_SECONDS:
                where = "on one node" if single else "in the cluster"
                raise CannotStart(f"{amount} cannot be had {where}; there: {describe(nodes)}")
            if not has_said and now - began > _PATIENCE_SECONDS:
                has_said = True
                until = _until(autoscaling=autoscaling, missing=bool(missing_since))
                self._say(f"waits for {amount} until {until}; {self._cluster.name} has: {describe(nodes)}")

    def _place(self) -> None:
        import ray
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        actor_class = ray.remote(max_restarts=0, max_task_retries=0, concurrency_groups=_GROUPS)(Rank)
        for number, spec in enumerate(self._specs):
            bundle = self._share.bundle(len(spec.slots))
            place = PlacementGroupSchedulingStrategy(placement_group=self._group, placement_group_bundle_index=number)
            self.actors.append(
                actor_class.options(
                    num_cpus=bundle["CPU"], num_gpus=bundle.get("GPU", 0.0), scheduling_strategy=place
                ).remote()
            )

    def _compare_versions(self) -> None:
        import mnist_trials

        try:
            versions = self._ask("version")
        except Exception as error:  # what Ray makes of an import that fails on a node differs by version
            if "No module named 'mnist_trials" not in str(error):
                raise
            raise CannotStart(
                f"mnist-trials is not installed on a node of {self._cluster.name}; install mnist-trials "
                f"{mnist_trials.__version__} with its plugins on every node (in the image of the pods)"
            ) from error
        if others := sorted({version for version in versions if version != mnist_trials.__version__}):
            raise CannotStart(
                f"the nodes of {self._cluster.name} have mnist-trials {', '.join(others)}, this machine has "
                f"{mnist_trials.__version__}; install the same version on all"
            )


def _until(*, autoscaling: bool, missing: bool) -> str:
    if autoscaling:
        return "the autoscaler adds nodes or others end"
    return "nodes come back, for so much is not there now" if missing else "others end"


def in_words(error: Exception) -> str:
    """The last line of what Ray says, which is what happened; all before it is where."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else type(error).__name__


def _in_url(address: str) -> str:
    return f"[{address}]" if ":" in address else address
