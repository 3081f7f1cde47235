"""`compile: program`: learning from a batch by captured programs."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, Final, final

import torch
from torch.utils import _pytree as pytree

from mnist_trials.errors import ProgramError
from mnist_trials.programs.graph import Graph
from mnist_trials.programs.optimizing import Updating
from mnist_trials.programs.steps import FACTOR, Steps, apply, gradient_of, rate_names
from mnist_trials.programs.tracing import names_of
from mnist_trials.training.context import TrialContext
from mnist_trials.training.programwise.capture import CapturedStep, clipping_of, pure
from mnist_trials.training.programwise.shelf import Bound, Shelf, constants_of, dense, kinds_of
from mnist_trials.training.torch_models.stepper import Stepper
from mnist_trials.training.trial import Trial

_KINDS: Final = ("cpu", "cuda")


def by_programs(context: TrialContext) -> bool:
    """Whether the config has steps captured as programs; says so where the device does that whatever the config has."""
    kind, programs = context.device.type, context.experiment_config.get("compile") == "program"
    if context.execution.static_shapes or (programs and kind not in _KINDS):
        tell_no_effect(context)
        return False
    return programs


def tell_no_effect(context: TrialContext) -> None:
    """Say that nothing comes of the config's `compile`, if it has one, on a backend whose steps are all compiled."""
    if asked := context.experiment_config.get("compile"):
        context.notice(
            f"`compile: {'program' if asked == 'program' else 'true'}` has no effect on the backend "
            f"'{context.spec.slot.backend}': each step is a program there in any case."
        )


@final
class ProgramStep:
    """Learns from batches by programs: the whole step in one, or its gradients and its update apart.

    They are apart where something comes between them: other batches of the group, other ranks, or the runtime's own
    look at gradients. Where float16 scales the loss, or gradients are looked at, the update is left to the runtime.

    Raises:
        ProgramError: no program can hold a step of this trial's optimizer, or of a model that is split.
    """

    def __init__(self, trial: Trial, model: torch.nn.Module, stepper: Stepper, context: TrialContext) -> None:
        _require_whole(context)
        if isinstance(trial.optimizer, Mapping):
            raise ProgramError(
                f"A program updates by one optimizer, and build_optimizer returned {len(trial.optimizer)}. Leave "
                "`compile: program` out, and step them in train_batch."
            )
        self._trial = trial
        self._model = model
        self._stepper = stepper
        self._context = context
        self._execution = context.execution
        self._optimizer: torch.optim.Optimizer = trial.optimizer
        self._clipping = clipping_of(context.hparams)
        self._alone = context.layout.size == 1
        self._shelf = Shelf(context, trial, model)
        self._rates = _Rates(context.device)
        self._seen: object = None  # the optimizer's state that programs are bound to
        self.begin()

    @property
    def programs(self) -> tuple[Bound, ...]:
        """Those made so far."""
        return self._shelf.programs

    def begin(self) -> None:
        """The user's code may have run since the last batch: see what it has changed."""
        parameters = [p for group in self._optimizer.param_groups for p in group["params"]]
        self._updating = Updating(self._optimizer, names_of(parameters, self._model))
        self._parameters = dict(self._model.named_parameters())
        self._constants: Hashable = (constants_of(self._model), len(parameters))
        self._shelf.forget_unless(self._updating.tensors)

    def learn(self, batch: Any, size: int, whole: float) -> dict[str, Any]:
        """Learn from a batch of `size` samples here and `whole` over all data ranks; returns its metrics.

        Raises:
            ProgramError: the trial does what no program can.
        """
        if self._optimizer.state is not self._seen:  # it was loaded
            self._shelf.forget()
        leaves = pytree.tree_leaves(batch)
        scale = self._execution.loss_scale
        left = scale is not None or self._stepper.keeps_gradients
        key = (kinds_of(leaves), self._constants, self._options())
        if self._alone and self._stepper.frequency == 1 and not left:
            step = self._shelf.find(("step", *key), lambda: self._capture_step(batch))
            self._seen = self._optimizer.state
            metrics = step.run([*dense(leaves), *self._rates.of(self._updating)])
            self._stepper.updated()
            return metrics
        gather = self._shelf.find(("gradients", *key), lambda: self._capture_gradients(batch))
        self._seen = self._optimizer.state
        self._stepper.program = None if left else self._update
        return self._gather(gather, dense(leaves), size, whole, scale)

    def _gather(
        self, bound: Bound, leaves: list[torch.Tensor], size: int, whole: float, scale: torch.Tensor | None
    ) -> dict[str, Any]:
        weight = bound.weights.get("loss")
        if weight is not None and size == 0:
            weight = 0.0  # no sample was left for this rank: what its batch holds counts elsewhere
        samples, weights = (float(size), whole) if weight is None else (weight, self._execution.ranks.sum(weight))
        if weights == 0:
            self._stepper.leave_out()
            return {}
        factor = torch.tensor(self._stepper.factor(samples, weights), device=self._context.device)
        metrics: dict[str, Any] = {}
        if samples > 0:
            gradients = [self._gradient(name) for name in bound.learnt]
            metrics = bound.run([*leaves, factor if scale is None else factor * scale, *gradients])
        self._stepper.gathered(weights)
        return metrics

    def _gradient(self, name: str) -> torch.Tensor:
        """Where the gradient of a parameter is gathered: `.grad`, where checkpoints and other ranks look for it."""
        parameter = self._parameters[name]
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        elif parameter.grad.stride() != parameter.stride():  # it comes from a checkpoint
            parameter.grad = torch.zeros_like(parameter).copy_(parameter.grad)
        return parameter.grad

    def _update(self) -> None:
        """Called by the stepper: clip and update by the gradients that there are."""
        gradients = {name: p.grad for name, p in self._parameters.items() if p.grad is not None}
        key = ("update", tuple(gradients), self._constants, self._options())
        bound = self._shelf.find(key, lambda: self._capture_update(gradients))
        laid = [
            gradient if spec.fits(gradient) else spec.empty(gradient.device).copy_(gradient)
            for gradient, spec in zip(
                gradients.values(), list(bound.graph.inputs.values())[-len(gradients) :], strict=True
            )
        ]
        bound.run([*self._rates.of(self._updating), *laid])

    def _options(self) -> Hashable:
        return tuple(str(options) for options in self._updating.options())

    def _capture_step(self, batch: Any) -> Bound:
        captured, steps = self._steps(batch)
        updating, device = self._updating, self._context.device
        state = {**steps.weights, **updating.state(updating.learnt, device)}

        def whole(given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            return steps.update(given, updating.learnt, updating, self._clipping)

        with pure(self._trial):
            graph = Graph.of("train", whole, state, {**captured.inputs, **self._rates.named(updating)})
        return self._shelf.bind(graph, state, captured.weights)

    def _capture_gradients(self, batch: Any) -> Bound:
        captured, steps = self._steps(batch)
        learnt, factor = tuple(self._updating.learnt), torch.tensor(1.0, device=self._context.device)

        def first_part(given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            return steps.gather(given, learnt)

        while True:
            gradients = {gradient_of(name): torch.zeros_like(self._parameters[name]) for name in learnt}
            with pure(self._trial):
                inputs = {**captured.inputs, FACTOR: factor, **gradients}
                graph = Graph.of("train.gradients", first_part, steps.weights, inputs)
            if steps.reached == learnt:
                return self._shelf.bind(graph, steps.weights, captured.weights, learnt)
            learnt = steps.reached  # the loss does not depend on the others

    def _capture_update(self, gradients: Mapping[str, torch.Tensor]) -> Bound:
        updating = self._updating
        own = updating.state(list(gradients), self._context.device)
        state = {**{name: self._parameters[name] for name in gradients}, **own}
        given = {gradient_of(name): gradient.contiguous() for name, gradient in gradients.items()}

        def second_part(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            apply(tensors, {name: tensors[gradient_of(name)] for name in gradients}, updating, self._clipping)
            return {}

        graph = Graph.of("train.update", second_part, state, {**self._rates.named(updating), **given})
        return self._shelf.bind(graph, state)

    def _steps(self, batch: Any) -> tuple[CapturedStep, Steps]:
        captured = CapturedStep(self._trial, self._execution, "train", batch)
        return captured, Steps(self._model, captured.forward, captured.inputs)


@final
class _Rates:
    """The learning rates as tensors, which programs read: a schedule changes values, and no program."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._known: list[float] = []
        self._tensors: list[torch.Tensor] = []

    def of(self, updating: Updating) -> list[torch.Tensor]:
        """Those of all groups of parameters, as they are now."""
        rates = updating.learning_rates
        if rates != self._known:
            for tensor, rate in zip(self._tensors, rates, strict=False):
                tensor.fill_(rate)
            self._tensors += [
                torch.tensor(rate, dtype=torch.float64, device=self._device) for rate in rates[len(self._tensors) :]
            ]
            self._known = rates
        return self._tensors[: len(rates)]

    def named(self, updating: Updating) -> dict[str, torch.Tensor]:
        """Those of all groups of parameters, as the inputs of a program."""
        tensors = self.of(updating)
        return dict(zip(rate_names(len(tensors)), tensors, strict=True))


def _require_whole(context: TrialContext) -> None:
    layout = context.layout
    if layout.mesh.tensor > 1 or layout.shard:
        what = "a mesh with `tensor` > 1" if layout.mesh.tensor > 1 else "`shard: true`"
        raise ProgramError(
            f"A program needs whole parameters, and {what} splits them over slots. Leave that out, or "
            "`compile: program`."
        )
