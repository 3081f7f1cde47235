"""The mean of gradients over ranks, taken right before an update."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import final

import torch
import torch.distributed as dist

from mnist_trials_plugins.backends._torch.bucket import Bucket
from mnist_trials_plugins.backends._torch.parts import split_over
from mnist_trials_plugins.backends._torch.team import Team


@final
class Averager:
    """Averages the gradients of the same parameters again and again.

    Not in the backward pass, as DistributedDataParallel does it: there may be any number of backward passes before an
    update, through any part of the model, and groups of them that end early. Gradients of one type travel together; how
    they lie there is the same on every rank, as it follows the order of the parameters.
    """

    def __init__(self, team: Team) -> None:
        self._team = team
        self._buckets: dict[tuple[int, ...], list[Bucket]] = {}

    @torch.no_grad()
    def average(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """See `Execution.average_gradients`. The gradients lie in memory of this object's until the next call."""
        buckets = self._buckets_of(parameters)
        works = [bucket.send() for bucket in buckets]
        for bucket, work in zip(buckets, works, strict=True):
            work.wait()
            bucket.take_in()

    def _buckets_of(self, parameters: Sequence[torch.nn.Parameter]) -> list[Bucket]:
        key = tuple(map(id, parameters))  # they stay what they are as long as their buckets hold the parameters
        buckets = self._buckets.get(key)
        if buckets is None:
            new = set(key)
            self._buckets = {known: kept for known, kept in self._buckets.items() if new.isdisjoint(known)}
            buckets = self._buckets[key] = self._sort(parameters)
        return buckets

    def _sort(self, parameters: Sequence[torch.nn.Parameter]) -> list[Bucket]:
        members: dict[tuple[dist.ProcessGroup, torch.dtype, torch.device], list[torch.nn.Parameter]] = defaultdict(list)
        for parameter in parameters:
            group = self._group(parameter)
            if group is not None:
                members[group, parameter.dtype, parameter.device].append(parameter)
        return [Bucket(together, group) for (group, _, _), together in members.items()]

    def _group(self, parameter: torch.nn.Parameter) -> dist.ProcessGroup | None:
        """The ranks whose gradients of `parameter` are to become one; None where they are already.

        What is whole on several ranks of a tensor dimension is averaged over these too: they have computed the same
        but for rounding, and must not drift apart.
        """
        split = split_over(parameter)
        if "data" in split:  # FSDP averages in the backward pass
            return None if "tensor" in split else self._team.tensor
        return self._team.data if "tensor" in split else self._team.world
