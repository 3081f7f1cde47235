"""What the programs of a training do, as functions of named tensors: the step, its parts, the evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

import torch
from torch.nn.utils import stateless

from mnist_trials.errors import ProgramError
from mnist_trials.programs.optimizing import SEPARATOR, Updating

Forward = Callable[[dict[str, torch.Tensor]], tuple[torch.Tensor | None, dict[str, torch.Tensor]]]
"""Takes the inputs by name; gives the loss, where there is one, and the outputs by name."""

RATE: Final = "learning_rate"
FACTOR: Final = "factor"
GRADIENT: Final = "gradient"


@final
@dataclass(frozen=True, slots=True)
class Clipping:
    """How gradients are limited before an update; None: not."""

    value: float | None = None
    norm: float | None = None

    def apply(self, gradients: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The gradients with every element in [-value, value], then scaled down to `norm`, taken over all of them."""
        clipped = dict(gradients)
        if self.value is not None:
            clipped = {name: gradient.clamp(-self.value, self.value) for name, gradient in clipped.items()}
        if self.norm is not None:
            norms = torch.stack([torch.linalg.vector_norm(gradient) for gradient in clipped.values()])
            scale = (self.norm / (torch.linalg.vector_norm(norms) + 1e-6)).clamp(max=1.0)
            clipped = {name: gradient * scale for name, gradient in clipped.items()}
        return clipped


@final
class Steps:
    """The steps of one model, to be traced. All take the model's tensors, by their names in it, among the others.

    Attributes:
        parameters, weights: the model's tensors by name; weights have its buffers, too.
        reached: once `gather` was traced, the parameters that the loss depends on.
    """

    def __init__(self, model: torch.nn.Module | None, forward: Forward, inputs: Iterable[str]) -> None:
        """`inputs` are the names of what `forward` takes."""
        self._model = model
        self._forward = forward
        self._inputs = tuple(inputs)
        self.parameters = {} if model is None else dict(model.named_parameters())
        buffers = {} if model is None else dict(model.named_buffers())
        self.weights: dict[str, torch.Tensor] = {**self.parameters, **buffers}
        self.reached: tuple[str, ...] = ()

    def outputs(self, given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The forward pass alone, without gradients."""
        with torch.no_grad():
            _, outputs = self._run(given, {})
        return outputs

    def gradients(
        self, given: dict[str, torch.Tensor], wanted: Sequence[str], factor: torch.Tensor | None = None
    ) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """The outputs, and the gradients of the loss, times `factor`, by those `wanted` of what it depends on.

        They may be parameters or inputs. Nothing is computed for others.

        Raises:
            ProgramError: there is no loss to derive.
        """
        _require_no_hooks({name: self.parameters[name] for name in wanted if name in self.parameters})
        leaves = {name: given[name].detach().requires_grad_() for name in wanted}
        with torch.enable_grad():  # type: ignore[no-untyped-call]
            loss, outputs = self._run(given, leaves)
            loss = _scalar(loss)
            found: Sequence[torch.Tensor | None] = torch.autograd.grad(
                loss if factor is None else loss * factor, list(leaves.values()), allow_unused=True
            )
        detached = {name: output.detach() for name, output in outputs.items()}
        return detached, {name: g for name, g in zip(leaves, found, strict=True) if g is not None}

    def _run(
        self, given: dict[str, torch.Tensor], leaves: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor | None, dict[str, torch.Tensor]]:
        inputs = {name: leaves.get(name, given[name]) for name in self._inputs}
        if self._model is None:
            return self._forward(inputs)
        weights = {name: leaves.get(name, given[name]) for name in self.weights}
        with stateless._reparametrize_module(self._model, weights, tie_weights=True):
            result = self._forward(inputs)
            _require_same_buffers(self._model, weights)
        return result

    def update(
        self, given: dict[str, torch.Tensor], learnt: Sequence[str], updating: Updating, clipping: Clipping
    ) -> dict[str, torch.Tensor]:
        """A whole step: forward, loss, backward, clipping, update of the parameters `learnt` in place."""
        outputs, gradients = self.gradients(given, learnt)
        apply(given, gradients, updating, clipping)
        return outputs

    def gather(self, given: dict[str, torch.Tensor], learnt: Sequence[str]) -> dict[str, torch.Tensor]:
        """The first part of a step: the gradients, times the input "factor", are added to those that are given."""
        outputs, gradients = self.gradients(given, learnt, given[FACTOR])
        self.reached = tuple(gradients)
        with torch.no_grad():
            for name, gradient in gradients.items():
                given[gradient_of(name)].add_(gradient)
        return outputs


def apply(
    given: Mapping[str, torch.Tensor],
    gradients: Mapping[str, torch.Tensor],
    updating: Updating,
    clipping: Clipping,
) -> None:
    """The second part of a step: clipping and the update, in place."""
    rates = [given[rate] for rate in rate_names(len(updating.learning_rates))]
    with torch.no_grad():
        updating.apply(given, clipping.apply(gradients), given, rates)


def _require_same_buffers(model: torch.nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    if replaced := [name for name, buffer in model.named_buffers() if weights.get(name) is not buffer]:
        raise ProgramError(
            f"The model's forward() replaces the buffers {', '.join(replaced)} by other tensors, which a program would "
            "do once. Change them in place (self.buffer.copy_(...)), or use `compile: true`."
        )


def has_hooks(parameter: torch.Tensor) -> bool:
    """Whether functions are to be called with its gradient."""
    return bool(parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None))


def _require_no_hooks(parameters: Mapping[str, torch.Tensor]) -> None:
    if hooked := [name for name, parameter in parameters.items() if has_hooks(parameter)]:
        raise ProgramError(
            f"The parameters {', '.join(hooked)} have hooks (register_hook and the like), which a program would not "
            "call. Do to the loss or to the learning rate of these parameters what they do to gradients, or use "
            "`compile: true`."
        )


def gradient_of(name: str) -> str:
    """What the gradient of the parameter `name` is called in a program's state."""
    return f"{name}{SEPARATOR}{GRADIENT}"


def rate_names(groups: int) -> list[str]:
    """The names of the inputs for the learning rates of so many groups of parameters."""
    return [RATE if index == 0 else f"{RATE}_{index}" for index in range(groups)]


def _scalar(loss: torch.Tensor | None) -> torch.Tensor:
    if loss is None or loss.numel() != 1:
        shape = "none" if loss is None else f"a tensor of shape {list(loss.shape)}"
        raise ProgramError(
            f"There is no loss to derive: a single number is needed, alone or as 'loss', the function gave {shape}. "
            "Where gradients of an output are known, let it give (output * gradients).sum(), with them as an input."
        )
    if not loss.requires_grad:
        raise ProgramError(
            "The loss does not depend on any parameter that requires gradients. Was it detached, or is the whole model "
            "frozen?"
        )
    return loss.reshape(())
