"""The programs of one training: captured when they are first needed, compiled or fetched, and bound to tensors."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import torch

from mnist_trials.errors import ProgramError
from mnist_trials.programs.cache import Executable, ProgramCache
from mnist_trials.programs.graph import Graph
from mnist_trials.programs.optimizing import SEPARATOR
from mnist_trials.programs.steps import has_hooks
from mnist_trials.training.context import TrialContext
from mnist_trials.training.measures.metrics import Weighted
from mnist_trials.training.trial import Trial

_MOST: Final = 16
"""Programs of one training. More means that something changes which a program must have for a constant."""


@final
@dataclass(frozen=True, slots=True)
class Bound:
    """A program with the tensors that it works on, and what its outputs count for in a mean."""

    graph: Graph
    executable: Executable
    tensors: list[torch.Tensor]  # those of the state, and those that it holds
    weights: Mapping[str, float | None]
    learnt: tuple[str, ...]  # the parameters whose gradients it adds to
    origins: tuple[tuple[Mapping[str, Any], str, torch.Tensor], ...] = ()  # attributes that tensors it holds come from

    @property
    def outdated(self) -> bool:
        """Whether an attribute is another tensor by now than the one that it holds."""
        return any(attributes.get(name) is not tensor for attributes, name, tensor in self.origins)

    def run(self, inputs: Iterable[torch.Tensor]) -> dict[str, Any]:
        """The outputs by name, as a trial returns metrics."""
        outputs = self.executable.run([*self.tensors, *inputs])
        weights = self.weights
        return {
            name: value if (weight := weights.get(name)) is None else Weighted(value, weight)
            for name, value in zip(self.graph.outputs, outputs, strict=True)
        }


@final
class Shelf:
    """Programs by whatever each of them has for a constant."""

    def __init__(self, context: TrialContext, trial: Trial, model: torch.nn.Module) -> None:
        self._context = context
        self._trial = trial
        self._model = model
        self._cache = ProgramCache()
        self._bound: dict[Hashable, Bound] = {}

    def find(self, key: Hashable, make: Callable[[], Bound]) -> Bound:
        """The program for `key`, made if there is none yet.

        Raises:
            ProgramError: no program can do what is asked, or there are too many already.
        """
        bound = self._bound.get(key)
        if bound is None or bound.outdated:
            if bound is None and len(self._bound) >= _MOST:
                raise ProgramError(
                    f"{_MOST} programs were captured for this training, and it needs one more. Something is new again "
                    "and again that a program has for a constant: the shapes of batches, which parameters are trained, "
                    "or an option of the optimizer such as the momentum that OneCycleLR changes (cycle_momentum=False "
                    "leaves it alone). Keep it the same, or use `compile: true`."
                )
            bound = self._bound[key] = make()
        return bound

    def bind(
        self,
        graph: Graph,
        state: Mapping[str, torch.Tensor],
        weights: Mapping[str, float | None] | None = None,
        learnt: tuple[str, ...] = (),
    ) -> Bound:
        """`graph`, compiled, on the tensors of `state`; what became of it is told and booked."""
        context = self._context
        context.beat()
        executable = self._cache.obtain(graph)
        context.beat()
        if context.rank == 0:
            context.notice(executable.told())
        if context.performance is not None:
            context.performance.program_seconds += executable.seconds
            context.performance.programs_built += executable.origin == "built"
        origins = tuple(self._origins(graph.held.values()))
        return Bound(graph, executable, graph.flat(state, ()), dict(weights or {}), learnt, origins)

    def _origins(self, held: Iterable[torch.Tensor]) -> Iterator[tuple[Mapping[str, Any], str, torch.Tensor]]:
        """Where `held` tensors are attributes of the trial or of a module: user code may put others there."""
        for tensor in held:
            for attributes in (vars(self._trial), *map(vars, self._model.modules())):
                yield from ((attributes, name, tensor) for name, value in attributes.items() if value is tensor)

    @property
    def programs(self) -> tuple[Bound, ...]:
        """Those on it now."""
        return tuple(self._bound.values())

    def forget(self) -> None:
        """Programs are bound to tensors that are no longer used. What was compiled is found again on disk."""
        self._bound.clear()

    def forget_unless(self, tensors: Iterable[torch.Tensor]) -> None:
        """Forget them if an optimizer's state that one is bound to is none of `tensors`."""
        there = {id(tensor) for tensor in tensors}
        for bound in self._bound.values():
            named = zip(bound.graph.state, bound.tensors, strict=False)  # behind them come those that it holds
            if any(SEPARATOR in name and id(tensor) not in there for name, tensor in named):
                self.forget()
                return


def kinds_of(leaves: Sequence[Any]) -> Hashable:
    """What of the parts of a batch a program has for a constant."""
    return tuple((tuple(leaf.shape), leaf.dtype) if isinstance(leaf, torch.Tensor) else None for leaf in leaves)


def dense(leaves: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The parts of a batch as a program takes them."""
    return [leaf if leaf.is_contiguous() else leaf.contiguous() for leaf in leaves]


def constants_of(model: torch.nn.Module) -> Hashable:
    """What of a model a program has for a constant, and user code may change between batches.

    Modules are in it themselves, so that none that comes later can be taken for one that was replaced; a program holds
    on to the tensors that it is bound to.
    """
    modules = tuple((module, module.training, _hooks_of(module), _options_of(module)) for module in model.modules())
    parameters = tuple((id(p), p.requires_grad, has_hooks(p)) for p in model.parameters())
    return modules, parameters, tuple(map(id, model.buffers()))


def _hooks_of(module: torch.nn.Module) -> tuple[int, ...]:
    return len(module._forward_pre_hooks), len(module._forward_hooks), len(module._backward_hooks)


def _options_of(module: torch.nn.Module) -> tuple[Hashable, ...]:
    """Of a module of torch what it was made with, such as the rate of a dropout. Others may count in attributes."""
    if not type(module).__module__.startswith("torch.nn."):
        return ()
    return tuple(value for value in vars(module).values() if isinstance(value, int | float | str))
