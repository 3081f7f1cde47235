"""A captured program as such: a static graph with named inputs, state and outputs."""

from __future__ import annotations

import hashlib
import json
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, final

import torch
from torch import fx

from mnist_trials.programs.specs import TensorSpec
from mnist_trials.programs.tracing import Traced, telling_the_line, trace

if TYPE_CHECKING:
    from torch.export import ExportedProgram

Tensors = Mapping[str, torch.Tensor]
Specs = Mapping[str, TensorSpec]


@final
@dataclass(frozen=True)
class Graph:
    """What a program computes. Its module takes `state`, `held` and `inputs`, in this order, one by one.

    Attributes:
        state: tensors that live where the program runs, and that it may change in place.
        held: tensors that the captured function used without being given them: they are looked at in every run.
        inputs: what is given anew for every run.
        outputs: what the module returns, in a tuple.
        device: the kind of device it is for.
    """

    name: str
    module: fx.GraphModule
    state: Specs
    held: Tensors
    inputs: Specs
    outputs: Specs
    device: str

    @classmethod
    def of(cls, name: str, function: Traced, state: Tensors, inputs: Tensors) -> Graph:
        """Capture `function`, which takes both by name, for tensors like these; their values are not looked at.

        Raises:
            ProgramError: no program can do what it does; the text names the line.
        """
        given = {**state, **inputs}
        module, held, outputs = trace(name, function, given)
        _put_before_inputs(module, len(held), len(inputs))
        returned = next(node for node in module.graph.nodes if node.op == "output").args[0]
        return cls(
            name,
            module,
            {key: TensorSpec.of(tensor) for key, tensor in state.items()},
            held,
            {key: TensorSpec.of(tensor) for key, tensor in inputs.items()},
            {key: TensorSpec.of(node.meta["val"]) for key, node in zip(outputs, returned, strict=True)},
            next((tensor.device.type for tensor in given.values()), "cpu"),
        )

    def exported(self) -> ExportedProgram:
        """The graph as torch.export has it, to be compiled or saved."""
        from torch.export import export

        place = torch.device(self.device)
        # Of those that it holds a single number may lie on the CPU, whatever the device.
        held = [TensorSpec.of(tensor).empty(tensor.device) for tensor in self.held.values()]
        state, inputs = ([spec.empty(place) for spec in specs.values()] for specs in (self.state, self.inputs))
        with telling_the_line(self.name):
            return export(self.module, (*state, *held, *inputs))

    def operations(self) -> dict[str, int]:
        """How often each operation is in it, by name, the most frequent first."""
        counted = Counter(str(node.target) for node in self.module.graph.nodes if _is_operation(node))
        return dict(counted.most_common())

    def text(self) -> str:
        """The graph, one operation a line, with the shape of what each gives."""
        placeholders = [node.name for node in self.module.graph.nodes if node.op == "placeholder"]
        kinds = [("state", self.state), ("held", self._held_specs()), ("input", self.inputs)]
        named = [(kind, name, spec) for kind, specs in kinds for name, spec in specs.items()]
        taken = [
            f"  {node}: {spec}  # {kind} {name}" for node, (kind, name, spec) in zip(placeholders, named, strict=True)
        ]
        done = [f"  {_line(node)}" for node in self.module.graph.nodes if node.op in ("call_function", "output")]
        given = [f"  {name}: {spec}" for name, spec in self.outputs.items()]
        return "\n".join([f"program {self.name} takes", *taken, "does", *done, "gives", *given])

    def _held_specs(self) -> dict[str, TensorSpec]:
        return {name: TensorSpec.of(tensor) for name, tensor in self.held.items()}

    @cached_property
    def key(self) -> str:
        """A digest of all that a compiled program depends on: the graph, the tensors it takes, versions, the machine.

        The graph is what the code of trial and model, and the hyperparameters, came down to: two that give the same
        one share a compiled program, whatever else about them differs.
        """
        described = {
            "signature": {**self.signature(), "name": None},
            "graph": _numbered(self.module.graph),
            "held": [tensor.device.type for tensor in self.held.values()],
            "torch": torch.__version__,
            "machine": _machine(self.device),
            "threads": torch.get_num_threads(),
            "deterministic": torch.are_deterministic_algorithms_enabled(),
        }
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:32]

    def signature(self) -> dict[str, Any]:
        """Names, shapes and dtypes, as strict JSON values."""
        parts = {"state": self.state, "held": self._held_specs(), "inputs": self.inputs, "outputs": self.outputs}
        specs = {part: {name: spec.to_json() for name, spec in given.items()} for part, given in parts.items()}
        return {"name": self.name, "device": self.device, **specs}

    def flat(self, state: Tensors, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """What the module takes."""
        return [*state.values(), *self.held.values(), *inputs]


def _put_before_inputs(module: fx.GraphModule, held: int, inputs: int) -> None:
    """Have `module` take its last `held` tensors before the `inputs` that come before them."""
    if not held or not inputs:
        return
    nodes = [node for node in module.graph.nodes if node.op == "placeholder"]
    first = nodes[len(nodes) - held - inputs]
    for node in nodes[len(nodes) - held :]:
        first.prepend(node)
    module.recompile()


def _is_operation(node: fx.Node) -> bool:
    return node.op == "call_function" and isinstance(node.target, torch._ops.OpOverload)


def _line(node: fx.Node) -> str:
    if node.op == "output":
        return f"return {node.args[0]}"
    value = node.meta.get("val")
    shape = f": {TensorSpec.of(value)}" if isinstance(value, torch.Tensor) else ""
    arguments = [*map(str, node.args), *(f"{name}={argument}" for name, argument in node.kwargs.items())]
    return f"{node.name}{shape} = {_function(node)}({', '.join(arguments)})"


def _function(node: fx.Node) -> str:
    if node.op == "placeholder":
        return "takes"
    return str(node.target) if _is_operation(node) else str(getattr(node.target, "__name__", node.target))


def _numbered(graph: fx.Graph) -> list[str]:
    """The graph with numbers for names: those that a trace gives differ from those in a file."""
    numbers = {node: f"%{index}" for index, node in enumerate(graph.nodes)}

    def numbered(node: fx.Node) -> Any:
        return numbers[node]

    return [
        f"{numbers[node]} {_function(node)} {fx.map_arg((node.args, node.kwargs), numbered)}" for node in graph.nodes
    ]


def _machine(device: str) -> str:
    if device == "cuda" and torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()} {torch.cuda.get_device_capability()} {torch.version.cuda}"
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()} {_cpu_features()}"


def _cpu_features() -> str:
    """What the processor knows beyond that: code is compiled for this very one."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            flags = next((line for line in file if line.startswith(("flags", "Features"))), "")
    except OSError:
        flags = platform.processor()
    return hashlib.sha256(flags.encode()).hexdigest()[:16]
