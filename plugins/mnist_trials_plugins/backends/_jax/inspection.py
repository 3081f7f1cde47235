"""What a trial consists of, seen by tracing its steps: nothing is compiled, and nothing is run."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import Any, Final, final

import jax

from mnist_trials.plugin import Inspection, LayerReport, StepReport
from mnist_trials_plugins.backends._jax.names import named
from mnist_trials_plugins.backends._jax.networks import Weights
from mnist_trials_plugins.backends._jax.parts import Part, Parts
from mnist_trials_plugins.backends._jax.primitives import primitives

_COST: Final = "as XLA's cost analysis counts the program before it is optimised"


def inspected(parts: Parts, samples: int, examined: int) -> Inspection:
    """The inspection of what `parts` are of; its batches have so many samples.

    Raises:
        TrialError: the trial broke the rules of the Trial interface.
    """
    training, evaluation = parts.train_step(), parts.evaluation()
    layers = _Layers()
    with layers.watched():
        steps = _report(training, samples)
    counts = {name: prod(leaf.shape) for name, leaf in named(parts.state["weights"]["params"]).items()}
    return Inspection(
        framework="jax",
        parameters=sum(counts.values()),
        trainable=sum(counts.values()),
        layers=layers.reports(parts.state["weights"]),
        training=steps,
        evaluation=_report(evaluation, examined),
        flops_are=f"arithmetic of every operation, {_COST}",
        bytes_are=f"what each operation reads and writes, {_COST}",
    )


def _report(part: Part, samples: int) -> StepReport:
    traced = jax.jit(part.function).trace(dict(part.inputs))
    cost: Mapping[str, float] = traced.lower().cost_analysis() or {}
    return StepReport(
        samples=samples,
        operations=dict(sorted(Counter(primitives(traced.jaxpr)).items())),
        flops=float(cost.get("flops", 0.0)),
        bytes=float(cost.get("bytes accessed", 0.0)),
    )


@final
@dataclass(slots=True)
class _Call:
    kind: str
    inputs: list[tuple[int, ...]]
    outputs: list[tuple[int, ...]]
    calls: int = 0


@final
@dataclass(slots=True)
class _Layers:
    """What the modules of a linen model are given and give back; of other models only the parameters are known."""

    _seen: dict[str, _Call] = field(default_factory=dict)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """The time in which calls are noted down."""
        linen = sys.modules.get("flax.linen")
        if linen is None:
            yield
            return
        with linen.intercept_methods(self._noted):
            yield

    def _noted(self, call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        if context.method_name != "__call__":
            return call(*args, **kwargs)
        name, kind = ".".join(context.module.path), type(context.module).__name__
        output = call(*args, **kwargs)
        known = self._seen.setdefault(name, _Call(kind, _shapes((args, kwargs)), _shapes(output)))
        known.calls += 1
        return output

    def reports(self, weights: Weights) -> list[LayerReport]:
        """The layers that have parameters of their own, in the order of these."""
        counts: dict[str, int] = {}
        kinds: dict[str, list[str]] = {}
        for name, leaf in named(weights["params"]).items():
            layer, _, own = name.rpartition(".")
            counts[layer] = counts.get(layer, 0) + prod(leaf.shape)
            kinds.setdefault(layer, []).append(f"{own} {'x'.join(map(str, leaf.shape)) or 'scalar'}")
        return [self._of(layer, count, ", ".join(kinds[layer])) for layer, count in counts.items()]

    def _of(self, layer: str, count: int, parameters: str) -> LayerReport:
        call = self._seen.get(layer) or _Call(parameters, [], [])
        return LayerReport(
            name=layer,
            kind=call.kind,
            inputs=call.inputs,
            outputs=call.outputs,
            calls=call.calls,
            parameters=count,
            trainable=count,
        )


def _shapes(tree: Any) -> list[tuple[int, ...]]:
    return [tuple(leaf.shape) for leaf in jax.tree.leaves(tree) if hasattr(leaf, "shape")]
