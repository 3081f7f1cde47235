"""The parts of a torch trial's steps as captured graphs: pure functions of named tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, Final, final

import torch
from torch.func import functional_call
from torch.utils import _pytree as pytree

from mnist_trials.errors import ProgramError
from mnist_trials.programs.graph import Graph
from mnist_trials.programs.optimizing import SEPARATOR, Updating
from mnist_trials.programs.steps import Steps, apply, rate_names
from mnist_trials.programs.tracing import names_of
from mnist_trials.training.context import TrialContext
from mnist_trials.training.data.feeds import Share
from mnist_trials.training.programwise.capture import CapturedStep, clipping_of, pure
from mnist_trials.training.torch_models.learning import TorchLearning
from mnist_trials.training.trial import Trial

Tensors = dict[str, torch.Tensor]
Function = Callable[[Tensors], Tensors]

_WEIGHTS: Final = "weights."
_STATE: Final = "state."
_OPTIMIZER: Final = "state.optimizer."
_GRADIENTS: Final = "gradients."
_INPUT: Final = "input."


@final
class TorchParts:
    """Captures the parts of a trial's steps, for batches like `batch` in training and `examined` in validations.

    What a step changes is among the inputs before and among the outputs after it; random numbers are the graph's own.
    """

    def __init__(
        self, trial: Trial, context: TrialContext, learning: TorchLearning, batch: Share, examined: Share
    ) -> None:
        self._trial = trial
        self._context = context
        self._model = learning.model
        self._batches = {True: batch[0], False: examined[0]}

    def all(self) -> Iterator[Callable[[], Graph]]:
        """What captures each, in the order of `mnist_trials.plugin.PARTS`.

        Each raises ProgramError where no program can do what the trial does, and TrialError where it breaks the rules.
        """
        yield self.init
        yield lambda: self.forward(training=True)
        yield lambda: self.forward(training=False)
        yield self.loss
        yield self.gradients
        yield self.optimizer
        yield self.train_step
        yield self.evaluation

    def init(self) -> Graph:
        """The first weights. A number that nothing depends on is its input, as a graph takes at least one."""

        def init(_: Tensors) -> Tensors:
            return _named(_WEIGHTS, _tensors_of(self._trial.build_model()))

        return self._captured("init", init, {"unused": torch.zeros(())}, training=True)

    def forward(self, *, training: bool) -> Graph:
        """The model itself, with what train_batch or evaluate_batch call it with first."""
        args, kwargs = self._first_call(training=training)
        leaves, layout = pytree.tree_flatten((args, kwargs))
        taken = {f"{_INPUT}{index}": leaf for index, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)}
        autocast = self._context.execution.autocast()

        def forward(given: Tensors) -> Tensors:
            filled = [given.get(f"{_INPUT}{index}", leaf) for index, leaf in enumerate(leaves)]
            args, kwargs = pytree.tree_unflatten(filled, layout)
            with torch.no_grad(), autocast or nullcontext():
                output = functional_call(self._model, _without(_WEIGHTS, given), args, kwargs)
            found = [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, torch.Tensor)]
            return {"output" if len(found) == 1 else f"output.{index}": leaf for index, leaf in enumerate(found)}

        name = "forward_train" if training else "forward_eval"
        return self._captured(name, forward, {**self._weights(), **taken}, training=training)

    def _first_call(self, *, training: bool) -> tuple[tuple[Any, ...], dict[str, Any]]:
        calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

        def note(_: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            calls.append((args, kwargs))

        step = self._step(training=training)
        handle = self._model.register_forward_pre_hook(note, with_kwargs=True)
        try:
            with self._mode(training), torch.set_grad_enabled(training):
                step.forward(dict(step.inputs))
        finally:
            handle.remove()
        if not calls:
            raise ProgramError("The trial never calls self.model as a whole, only parts of it.")
        return calls[0]

    def loss(self) -> Graph:
        """What train_batch gives."""
        step, learnt = self._step(training=True), self._updating().learnt
        steps = self._steps(step)

        def loss(given: Tensors) -> Tensors:
            return steps.gradients({**_without(_WEIGHTS, given), **given}, learnt)[0]

        return self._captured("loss", loss, {**self._weights(), **step.inputs}, training=True)

    def gradients(self) -> Graph:
        """What train_batch gives, and the gradients of its loss."""
        step, learnt = self._step(training=True), self._updating().learnt
        steps = self._steps(step)

        def gradients(given: Tensors) -> Tensors:
            outputs, found = steps.gradients({**_without(_WEIGHTS, given), **given}, learnt)
            return {**outputs, **_named(_GRADIENTS, found)}

        return self._captured("gradients", gradients, {**self._weights(), **step.inputs}, training=True)

    def optimizer(self) -> Graph:
        """The update that gradients make, with clipping."""
        updating, clipping = self._updating(), clipping_of(self._context.hparams)
        weights = {name: value for name, value in _tensors_of(self._model).items() if name in updating.learnt}

        def update(given: Tensors) -> Tensors:
            now = _state_of(given)
            apply(now, _without(_GRADIENTS, given), updating, clipping)
            return _state_to(now, weights)

        gradients = {name: torch.zeros_like(value) for name, value in weights.items()}
        state = _state_to({**weights, **self._optimizer_state(updating)}, weights)
        given = {**state, **_named(_GRADIENTS, gradients), **_rates(updating)}
        return self._captured("optimizer", update, given, training=True)

    def train_step(self) -> Graph:
        """Forward, loss, backward, clipping and update of one batch."""
        step = self._step(training=True)
        steps, updating, clipping = self._steps(step), self._updating(), clipping_of(self._context.hparams)
        weights = _tensors_of(self._model)

        def train(given: Tensors) -> Tensors:
            now = _state_of(given)
            outputs = steps.update(now, updating.learnt, updating, clipping)
            return {**outputs, **_state_to(now, weights)}

        state = _state_to({**weights, **self._optimizer_state(updating)}, weights)
        return self._captured("train_step", train, {**state, **step.inputs, **_rates(updating)}, training=True)

    def evaluation(self) -> Graph:
        """What evaluate_batch gives."""
        step = self._step(training=False)
        steps = self._steps(step)

        def evaluate(given: Tensors) -> Tensors:
            return steps.outputs({**_without(_WEIGHTS, given), **given})

        return self._captured("evaluation", evaluate, {**self._weights(), **step.inputs}, training=False)

    def _captured(self, name: str, function: Function, given: Tensors, *, training: bool) -> Graph:
        def on_copies(given: Tensors) -> Tensors:
            return function({key: tensor.clone() for key, tensor in given.items()})

        with self._mode(training), pure(self._trial):
            return Graph.of(name, on_copies, {}, {key: tensor.detach() for key, tensor in given.items()})

    @contextmanager
    def _mode(self, training: bool) -> Iterator[None]:
        modes = [(module, module.training) for module in self._model.modules()]
        self._model.train(training)
        try:
            yield
        finally:
            for module, mode in modes:
                module.training = mode

    def _step(self, *, training: bool) -> CapturedStep:
        execution, batch = self._context.execution, self._batches[training]
        return CapturedStep(self._trial, execution, "train" if training else "evaluate", batch)

    def _steps(self, step: CapturedStep) -> Steps:
        return Steps(self._model, step.forward, step.inputs)

    def _weights(self) -> Tensors:
        return _named(_WEIGHTS, _tensors_of(self._model))

    def _updating(self) -> Updating:
        optimizer = self._trial.optimizer
        if isinstance(optimizer, Mapping):
            raise ProgramError(f"A program updates by one optimizer; build_optimizer returned {len(optimizer)}.")
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        return Updating(optimizer, names_of(parameters, self._model))

    def _optimizer_state(self, updating: Updating) -> Tensors:
        return updating.state(updating.learnt, self._context.device)


def _tensors_of(model: Any) -> Tensors:
    """Parameters and buffers by name, as they are; `model` is what `build_model` gives."""
    module = torch.nn.ModuleDict(dict(model)) if isinstance(model, Mapping) else model
    named = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return {name: tensor.detach() for name, tensor in named.items()}


def _named(prefix: str, tensors: Mapping[str, torch.Tensor]) -> Tensors:
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


def _without(prefix: str, given: Mapping[str, torch.Tensor]) -> Tensors:
    """Those of `given` whose names begin with `prefix`, by the rest of these."""
    return {name.removeprefix(prefix): tensor for name, tensor in given.items() if name.startswith(prefix)}


def _state_of(given: Tensors) -> Tensors:
    """Weights and the optimizer's state by their own names, and all else by its own."""
    state = {**_without(f"{_STATE}{_WEIGHTS}", given), **_without(_OPTIMIZER, given)}
    return {**state, **{name: tensor for name, tensor in given.items() if not name.startswith(_STATE)}}


def _state_to(now: Tensors, weights: Tensors) -> Tensors:
    """Weights and the optimizer's state among `now`, by the names that they have as inputs and outputs."""
    return {
        **_named(f"{_STATE}{_WEIGHTS}", {name: now[name] for name in weights}),
        **_named(_OPTIMIZER, {name: tensor for name, tensor in now.items() if SEPARATOR in name}),
    }


def _rates(updating: Updating) -> Tensors:
    rates = updating.learning_rates
    values = [torch.tensor(rate, dtype=torch.float32) for rate in rates]
    return dict(zip(rate_names(len(rates)), values, strict=True))
