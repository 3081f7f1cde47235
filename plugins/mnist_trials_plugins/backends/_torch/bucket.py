"""Gradients of one type that travel together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
import torch.distributed as dist

from mnist_trials_plugins.backends._torch.parts import local, mesh_of


@final
class Bucket:
    """The gradients of `parameters`, one behind the other in one piece of memory, and after them two marks for each.

    A mark says, summed over the ranks, whether any has a gradient, and whether it is a sparse one: a parameter without
    a gradient counts as zeros, but where no rank has one there must be none afterwards either (an optimizer would
    decay it, or count a step).
    """

    def __init__(self, parameters: Sequence[torch.nn.Parameter], group: dist.ProcessGroup) -> None:
        parts = [local(parameter) for parameter in parameters]
        size = sum(part.numel() for part in parts)
        self._parameters = parameters
        self._group = group
        self._share = 1.0 / group.size()
        self._memory = parts[0].new_zeros(size + 2 * len(parts))
        self._gradients = self._memory[:size]
        self._marks = self._memory[size:].view(2, len(parts))
        self._places = _laid_out(parts, self._memory)
        self._sure = False  # whether every parameter had a dense gradient here, so that there is no need to ask

    def send(self) -> dist.Work:
        """Begin to sum the gradients of all ranks."""
        gradients = [_present(parameter) for parameter in self._parameters]
        dense = [gradient for gradient in gradients if gradient is not None and not gradient.is_sparse]
        self._sure = len(dense) == len(gradients)
        if self._sure:
            self._copy_all(dense)
        else:
            self._copy_one_by_one(gradients)
        work: dist.Work = dist.all_reduce(self._memory, group=self._group, async_op=True)
        return work

    def _copy_all(self, gradients: list[torch.Tensor]) -> None:
        if self._memory.device.type == "cpu":  # one pass over the memory instead of two
            for place, gradient in zip(self._places, gradients, strict=True):
                torch.mul(gradient, self._share, out=place)
        else:
            torch._foreach_copy_(self._places, gradients)
            self._gradients.mul_(self._share)
        self._marks[0].fill_(1.0)
        self._marks[1].zero_()

    def _copy_one_by_one(self, gradients: Sequence[torch.Tensor | None]) -> None:
        for place, gradient, marks in zip(self._places, gradients, self._marks.T, strict=True):
            marks[0] = float(gradient is not None)
            marks[1] = float(gradient is not None and gradient.is_sparse)
            if gradient is None:
                place.zero_()
            else:  # which may be `place` itself, kept since the last update
                place.copy_(gradient.to_dense() if gradient.is_sparse else gradient).mul_(self._share)

    def take_in(self) -> None:
        """Give the parameters their gradients, once the sum is there."""
        exists, sparse = (None, None) if self._sure else (self._marks > 0).tolist()
        for index, (parameter, place) in enumerate(zip(self._parameters, self._places, strict=True)):
            if exists is not None and not exists[index]:
                continue
            if mesh_of(parameter) is not None:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                local(parameter.grad).copy_(place)
            else:
                parameter.grad = place.to_sparse(1) if sparse is not None and sparse[index] else place


def _present(parameter: torch.nn.Parameter) -> torch.Tensor | None:
    """What of the gradient of `parameter` lies here."""
    gradient = parameter.grad
    if gradient is None:
        return None
    if mesh_of(gradient) is not None and gradient.placements != parameter.placements:  # type: ignore[attr-defined]
        gradient = parameter.grad = gradient.redistribute(placements=parameter.placements)  # type: ignore[attr-defined]
    return local(gradient)


def _laid_out(parts: Sequence[torch.Tensor], memory: torch.Tensor) -> list[torch.Tensor]:
    """Views of `memory` with the shapes of `parts`, and with their strides, which optimizers are fastest with."""
    places = []
    start = 0
    for part in parts:
        strides = torch.empty_like(part, device="meta").stride()  # those of `part` if it has no gaps
        places.append(memory.as_strided(part.shape, strides, start))
        start += part.numel()
    return places
