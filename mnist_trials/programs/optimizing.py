"""A torch optimizer as part of a program: its state as named tensors, its step as a rule of `updates`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, final

import torch

from mnist_trials.errors import ProgramError
from mnist_trials.programs.updates import RULES

SEPARATOR: Final = "/"
"""Between the name of a parameter and that of a tensor of the optimizer's state: `fc1.weight/exp_avg`."""

_ELSEWHERE: Final = ("params", "lr", "initial_lr", "foreach", "fused", "capturable", "differentiable")
"""What of a group of parameters is not an option of the rule."""


@final
class Updating:
    """An optimizer over parameters that have names.

    Raises:
        ProgramError: a program cannot hold a step of this optimizer.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, names: Mapping[torch.Tensor, str]) -> None:
        rule = RULES.get(type(optimizer))
        if rule is None:
            raise ProgramError(
                f"A program cannot hold a step of {type(optimizer).__name__}. It can of: "
                f"{', '.join(sorted(kind.__name__ for kind in RULES))}. Use one of these, or `compile: true`."
            )
        self._rule = rule
        self._optimizer = optimizer
        self._names = names
        for group in optimizer.param_groups:
            _require_plain(group)

    @property
    def learnt(self) -> list[str]:
        """The parameters that it updates, if they have a gradient."""
        parameters = (parameter for group in self._optimizer.param_groups for parameter in group["params"])
        return [self._names[parameter] for parameter in parameters if parameter.requires_grad]

    @property
    def learning_rates(self) -> list[float]:
        """That of every group of parameters, as it is now."""
        return [float(group["lr"]) for group in self._optimizer.param_groups]

    @property
    def tensors(self) -> Iterator[torch.Tensor]:
        """The optimizer's own, those that there are."""
        owned = (value for own in self._optimizer.state.values() for value in own.values())
        return (value for value in owned if isinstance(value, torch.Tensor))

    def options(self) -> list[dict[str, Any]]:
        """The options of every group, which are constants of a program."""
        groups = self._optimizer.param_groups
        return [{key: value for key, value in group.items() if key not in _ELSEWHERE} for group in groups]

    def state(self, learnt: Sequence[str], device: torch.device) -> dict[str, torch.Tensor]:
        """The optimizer's own tensors for the parameters named in `learnt`, on `device`; made where there are none."""
        chosen = set(learnt)
        for group in self._optimizer.param_groups:
            missing = [p for p in group["params"] if self._names[p] in chosen and not self._optimizer.state.get(p)]
            self._begin(group, missing)
        return dict(self._tensors(chosen, device))

    def _begin(self, group: dict[str, Any], parameters: list[torch.Tensor]) -> None:
        """The state of `parameters` as torch begins it, which it does for those that have a gradient."""
        if not parameters:
            return
        kept = [(p, p.grad) for p in group["params"]]
        for parameter, _ in kept:
            parameter.grad = None
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)
        init = self._optimizer._init_group  # type: ignore[attr-defined] # every optimizer of RULES has it
        lists: list[list[Any]] = [[] for _ in range(len(inspect.signature(init).parameters) - 1)]
        init(group, *lists)
        if group.get("momentum") and isinstance(self._optimizer, torch.optim.SGD):
            for parameter in parameters:
                self._optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        for parameter, gradient in kept:
            parameter.grad = gradient

    def _tensors(self, chosen: set[str], device: torch.device) -> Iterator[tuple[str, torch.Tensor]]:
        for parameter, own in self._optimizer.state.items():
            name = self._names.get(parameter)
            if name not in chosen:
                continue
            for key, value in own.items():
                if isinstance(value, torch.Tensor):
                    own[key] = value.to(device)  # torch keeps the number of the step on the CPU
                    yield f"{name}{SEPARATOR}{key}", own[key]

    def apply(
        self,
        parameters: Mapping[str, torch.Tensor],
        gradients: Mapping[str, torch.Tensor],
        state: Mapping[str, torch.Tensor],
        rates: Sequence[torch.Tensor],
    ) -> None:
        """One step, in place, of the parameters that have a gradient; called while a program is traced."""
        for group, options, rate in zip(self._optimizer.param_groups, self.options(), rates, strict=True):
            for name in (self._names[parameter] for parameter in group["params"]):
                if name in gradients:
                    start = f"{name}{SEPARATOR}"
                    own = {key.removeprefix(start): value for key, value in state.items() if key.startswith(start)}
                    gradient = -gradients[name] if options["maximize"] else gradients[name]
                    self._rule(parameters[name], gradient, own, options, rate)


def _require_plain(group: Mapping[str, Any]) -> None:
    if group.get("dampening") and group.get("momentum"):
        raise ProgramError(
            f"A program cannot hold SGD with dampening ({group['dampening']}): torch dampens every step but the first. "
            "Leave `dampening` out, or use `compile: true`."
        )
