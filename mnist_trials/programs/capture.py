"""Captures programs for use in Python: from a function, or from whatever else can be said as a forward pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any, final

import torch

from mnist_trials.errors import ProgramError
from mnist_trials.programs.graph import Graph
from mnist_trials.programs.optimizing import Updating
from mnist_trials.programs.program import Program
from mnist_trials.programs.specs import TensorSpec, device_of
from mnist_trials.programs.steps import Clipping, Forward, Steps, rate_names
from mnist_trials.programs.tracing import names_of


def capture(
    function: Callable[..., Any],
    inputs: Mapping[str, Any],
    *,
    model: torch.nn.Module | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    max_gradient_norm: float | None = None,
    max_gradient_value: float | None = None,
    name: str | None = None,
    device: torch.device | str = "cpu",
) -> Program:
    """The program of `function`: what it does with tensors like `inputs`, once and for all.

        def loss(images, labels):
            return nll_loss(log_softmax(model(images), 1), labels)

        train = mt.capture(loss, {"images": mt.TensorSpec((8, 1, 28, 28)), "labels": mt.TensorSpec((8,), torch.int64)},
                           model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.005))

    `function` is called once, with its inputs by name as tensors without values, and gives a tensor or a dict of them;
    one of them alone is called "loss" if it is a single number, and "output" if not. With an `optimizer` the program is
    a whole step: it learns from "loss", clips gradients as the hyperparameters of these names do, and updates the
    weights. The parameters and buffers of `model`, and the optimizer's state, are copied: they are the program's own.

    Args:
        function: uses `model`, its inputs, and other tensors, which it holds from then on.
        inputs: for each input a `TensorSpec`, or a tensor or array of that shape and dtype.
        model: the module that `function` calls, in the mode (train or eval) that it is in.
        optimizer: one of `model`'s parameters; without, nothing is updated.
        max_gradient_norm: all gradients are scaled down to this norm, taken over all of them.
        max_gradient_value: before that, every element is clipped to [-v, v].
        name: what errors call the program; by default that of the function.
        device: for which kind of device it is captured; `attach` captures it anew for another one.

    Raises:
        ProgramError: `function` does what no program can; the text names the line and says what to do.
    """
    title: str = name or getattr(function, "__name__", None) or type(function).__name__
    if not callable(function):
        raise ProgramError(f"mt.capture takes a function first, not {function!r}.")
    specs = _specs(title, inputs)
    if optimizer is None and (max_gradient_norm, max_gradient_value) != (None, None):
        raise ProgramError(
            f"The program '{title}' has no optimizer, so that max_gradient_norm and max_gradient_value have no effect: "
            "leave them out, or name the optimizer."
        )

    def forward(tensors: dict[str, torch.Tensor]) -> tuple[torch.Tensor | None, dict[str, torch.Tensor]]:
        outputs = _named_outputs(title, function(**tensors))
        return outputs.get("loss"), outputs

    clipping = Clipping(
        _limit("max_gradient_value", max_gradient_value), _limit("max_gradient_norm", max_gradient_norm)
    )
    return Recipe(title, forward, specs, model, optimizer, clipping).program(device_of(device))


@final
@dataclass(frozen=True)
class Recipe:
    """What a program is captured from, so that it can be captured again: for another device, with gradients."""

    name: str
    forward: Forward
    inputs: Mapping[str, TensorSpec]
    model: torch.nn.Module | None
    optimizer: torch.optim.Optimizer | None
    clipping: Clipping = field(default_factory=Clipping)
    wrt: tuple[str, ...] = ()
    guard: Callable[[], AbstractContextManager[None]] = nullcontext  # around whatever runs the forward pass

    def program(self, device: torch.device) -> Program:
        """The program, for `device`.

        Raises:
            ProgramError: no program can do what it is to do; the text says where and why.
        """
        steps = Steps(self.model, self.forward, self.inputs)
        state, settings = self._state(steps, torch.device("cpu")), self._settings()
        if taken := [name for name in self.inputs if name in state or name in settings]:
            raise ProgramError(
                f"The program '{self.name}' cannot have inputs named {', '.join(taken)}: its model, or its optimizer, "
                "has tensors of these names."
            )
        return Program(self.graph(device), state, list(steps.weights), settings, self._with_gradients, self.graph)

    def graph(self, device: torch.device) -> Graph:
        """The graph, for `device`.

        Raises:
            ProgramError: as `program`.
        """
        steps = Steps(self.model, self.forward, self.inputs)
        state = {name: tensor.to(device) for name, tensor in self._state(steps, device).items()}
        inputs = {name: spec.empty(device) for name, spec in self.inputs.items()}
        rates = {
            name: torch.tensor(rate, dtype=torch.float64, device=device) for name, rate in self._settings().items()
        }
        with self.guard():
            return Graph.of(self.name, self._function(steps), state, {**inputs, **rates})

    def _function(self, steps: Steps) -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
        if self.wrt:
            return lambda given: self._gradients(steps, given)
        updating = self._updating()
        if updating is not None:
            return lambda given: steps.update(given, updating.learnt, updating, self.clipping)
        return steps.outputs

    def _updating(self) -> Updating | None:
        if self.optimizer is None or self.wrt:
            return None
        if self.model is None:
            raise ProgramError(f"The program '{self.name}' has an optimizer and no model: name the model, too.")
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        return Updating(self.optimizer, names_of(parameters, self.model))

    def _state(self, steps: Steps, device: torch.device) -> dict[str, torch.Tensor]:
        updating = self._updating()
        own = {} if updating is None else updating.state(updating.learnt, device)
        return {**steps.weights, **own}

    def _settings(self) -> dict[str, float]:
        updating = self._updating()
        if updating is None:
            return {}
        rates = updating.learning_rates
        return dict(zip(rate_names(len(rates)), rates, strict=True))

    def _with_gradients(self, wrt: Sequence[str]) -> Program:
        steps = Steps(self.model, self.forward, self.inputs)
        known = [*steps.parameters, *(name for name, spec in self.inputs.items() if spec.dtype.is_floating_point)]
        if unknown := [name for name in wrt if name not in known]:
            close = [match for name in unknown for match in get_close_matches(name, known, 1)]
            meant = f" Did you mean {' and '.join(map(repr, close))}?" if close else ""
            raise ProgramError(
                f"The program '{self.name}' has no gradient by {' and '.join(map(repr, unknown))}.{meant} It has by: "
                f"{', '.join(known)}."
            )
        return replace(self, name=f"{self.name}.grad", wrt=tuple(wrt)).program(torch.device("cpu"))

    def _gradients(self, steps: Steps, given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        outputs, gradients = steps.gradients(given, self.wrt)
        if unused := [name for name in self.wrt if name not in gradients]:
            raise ProgramError(
                f"The loss of '{self.name}' does not depend on {', '.join(unused)}: there is no gradient."
            )
        return {**outputs, **{f"grad.{name}": gradients[name] for name in self.wrt}}


def _specs(program: str, inputs: object) -> dict[str, TensorSpec]:
    """What the program takes, by name.

    Raises:
        ProgramError: it takes nothing, or something that is no tensor; the text lists all of it.
    """
    if not isinstance(inputs, Mapping) or not inputs:
        raise ProgramError(
            f"The inputs of the program '{program}' are a dict of mt.TensorSpec (or tensors) by the names that its "
            f"function has for them, such as {{'images': mt.TensorSpec((8, 784))}}; not {inputs!r}."
        )
    specs: dict[str, TensorSpec] = {}
    wrong: list[str] = []
    for name, value in inputs.items():
        try:
            specs[name] = _spec(value)
        except (TypeError, ValueError, RuntimeError):
            wrong.append(f"'{name}' is {value!r}")
    if wrong:
        raise ProgramError(
            f"Inputs of the program '{program}' are no tensors: {'; '.join(wrong)}. Each is an mt.TensorSpec of a "
            "shape without negative sizes and of a torch dtype, or a tensor or array like those to come."
        )
    return specs


def _spec(value: Any) -> TensorSpec:
    if isinstance(value, TensorSpec):
        torch.empty(value.shape, dtype=value.dtype, device="meta")  # raises where there is no such tensor
        return value
    spec = TensorSpec.of(torch.as_tensor(value))
    return TensorSpec(spec.shape, spec.dtype)


def _limit(name: str, value: Any) -> float | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not value > 0):
        raise ProgramError(f"{name} is a number above 0, not {value!r}.")
    return value


def _named_outputs(program: str, result: Any) -> dict[str, torch.Tensor]:
    if isinstance(result, torch.Tensor):
        return {"loss" if result.numel() == 1 else "output": result}
    if isinstance(result, Mapping) and result and all(isinstance(value, torch.Tensor) for value in result.values()):
        return {str(name): value for name, value in result.items()}
    raise ProgramError(
        f"The function of the program '{program}' must return a tensor or a dict of tensors by name; it returned "
        f"{type(result).__name__}."
    )
