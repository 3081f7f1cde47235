"""The steps of a trial as programs: what is captured of `train_batch` and `evaluate_batch`, and what is refused."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from copy import copy
from typing import Any, Final, Literal, NoReturn, final

import numpy as np
import torch
from torch.utils import _pytree as pytree

from mnist_trials.errors import ProgramError
from mnist_trials.plugin import Execution
from mnist_trials.plugin.updates import gradient_limits
from mnist_trials.programs.capture import Recipe
from mnist_trials.programs.program import Program
from mnist_trials.programs.specs import TensorSpec
from mnist_trials.programs.steps import Clipping
from mnist_trials.training.measures.losses import as_metrics, checked_loss
from mnist_trials.training.measures.metrics import Untouched, Weighted, is_metric_object, trial_metrics
from mnist_trials.training.torch_models.models import prepare_model
from mnist_trials.training.trial import Trial

StepName = Literal["train", "evaluate"]
_METHODS: Final[Mapping[StepName, str]] = {"train": "train_batch", "evaluate": "evaluate_batch"}
_EAGER: Final = "or leave `compile: program` out (`compile: true` compiles the model alone)"


@final
class CapturedStep:
    """One step of a trial for batches of one kind, as a function of named tensors (see `Forward`).

    Attributes:
        inputs: the tensors of the batch by name.
        weights: what each metric counts for in a mean, once it was captured; None: the samples of the batch.
    """

    def __init__(self, trial: Trial, execution: Execution, step: StepName, batch: Any) -> None:
        """`batch` is one like those that the step will be given."""
        self.weights: dict[str, float | None] = {}
        self._trial = trial
        self._execution = execution
        self._step: StepName = step
        self._method = _METHODS[step]
        leaves, self._layout = pytree.tree_flatten(batch)
        named = dict(zip(_input_names(batch), leaves, strict=True))
        for name, leaf in named.items():
            if not isinstance(leaf, torch.Tensor):
                raise ProgramError(f"A batch has {leaf!r} as {name}, and a program takes tensors only; {_EAGER}.")
        self.inputs = {name: leaf.contiguous() for name, leaf in named.items()}

    def specs(self) -> dict[str, TensorSpec]:
        """What it takes, by name."""
        return {name: TensorSpec(tuple(leaf.shape), leaf.dtype) for name, leaf in self.inputs.items()}

    def forward(self, tensors: dict[str, torch.Tensor]) -> tuple[torch.Tensor | None, dict[str, torch.Tensor]]:
        """The loss, of a training step, and the metrics.

        Raises:
            ProgramError: the trial does what no program can.
        """
        batch = pytree.tree_unflatten(list(tensors.values()), self._layout)
        unknown = [Unknown(name, self._method) for name in ("epoch_idx", "batch_idx")]
        call: Callable[..., Any] = getattr(self._trial, self._method)
        autocast = copy(self._execution.autocast())  # a validation is inside of the same one, which is left once only
        with _leaving_steps(self._trial), autocast or nullcontext():
            result = call(batch, *unknown) if self._step == "train" else call(batch, unknown[1])
        metrics = as_metrics(result, manual=False)
        loss = checked_loss(metrics, 1)[0] if self._step == "train" else None
        return loss, {name: self._tensor(name, value) for name, value in metrics.items()}

    def _tensor(self, name: str, value: Any) -> torch.Tensor:
        weight: float | None = None
        if isinstance(value, Weighted):
            value, weight = value.value, value.weight
        if isinstance(value, torch.Tensor) and value.numel() == 1:
            self.weights[name] = weight
            return value.reshape(())
        if is_metric_object(value):
            what = "a torchmetrics object, which gathers values in Python: return the value itself, as a tensor"
        elif isinstance(value, torch.Tensor):
            what = f"a tensor of shape {list(value.shape)}: a metric is a single number"
        else:
            what = f"{value!r}, which a program would repeat for ever: return a tensor, leave it out"
        raise ProgramError(f"{self._method} returns as the metric '{name}' {what}; {_EAGER}.")


def capture_trial(
    trial: Trial, step: StepName, batch: Any, *, name: str | None = None, device: torch.device | None = None
) -> Program:
    """The program of a trial's step on batches like `batch`, with names "batch_0", "batch_1" for the parts of a tuple.

    "train" is the whole step: `train_batch`, backward pass, clipping and update as the hyperparameters say. "evaluate"
    is `evaluate_batch`. Model and optimizer are built if the trial has none yet; data is not. Values of `batch` are not
    looked at. The program has weights of its own, copied from the model.

    Raises:
        TrialError: the trial breaks the rules of the Trial interface.
        ProgramError: it does what no program can; the text names the line and says what to do.
    """
    execution, hparams = trial.context.execution, trial.context.hparams
    model = prepare_model(trial, trial.context) if trial._model is None else trial.model
    if step == "train" and trial._optimizer is None:
        trial._optimizer = trial.build_optimizer(model)
    optimizer = trial.optimizer if step == "train" else None
    if isinstance(optimizer, Mapping):
        raise ProgramError(f"A program updates by one optimizer; build_optimizer returned {len(optimizer)}.")
    captured = CapturedStep(trial, execution, step, batch)
    recipe = Recipe(
        name or step,
        captured.forward,
        captured.specs(),
        model,
        optimizer,
        clipping_of(hparams),
        guard=lambda: pure(trial),
    )
    modes = [(module, module.training) for module in model.modules()]
    model.train(step == "train")
    try:
        return recipe.program(device or execution.device)
    finally:
        for module, training in modes:
            module.training = training


def clipping_of(hparams: Mapping[str, Any]) -> Clipping:
    """How the hyperparameters have gradients clipped.

    Raises:
        TrialError: one of them is out of range.
    """
    return Clipping(*gradient_limits(hparams))


@final
class Unknown:
    """Stands for a number that is another one for every batch, which a program cannot know. Any use is an error."""

    def __init__(self, name: str, method: str) -> None:
        self._name = name
        self._method = method

    def _refuse(self, *_: object) -> NoReturn:
        raise ProgramError(
            f"{self._method} uses {self._name}, which a program would take for the same number for ever. Put what "
            f"changes with it into the batch or the learning-rate schedule, {_EAGER}."
        )

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _refuse
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __pow__ = __rpow__ = __neg__ = __abs__ = _refuse
    __lt__ = __le__ = __gt__ = __ge__ = __bool__ = __int__ = __float__ = __index__ = _refuse
    __eq__ = __ne__ = __hash__ = __str__ = __repr__ = __format__ = _refuse


@contextmanager
def pure(trial: Trial) -> Iterator[None]:
    """See that what is captured in a `with` block does nothing but compute: Python is run for a capture alone.

    Raises:
        ProgramError: it drew random numbers of Python or numpy, updated torchmetrics objects, or set attributes of the
            trial that it had set before.
    """
    before, metrics = dict(vars(trial)), Untouched(trial)
    counts = {name: metric.update_count for name, metric in trial_metrics(trial).items()}
    drawn = _drawn()
    try:
        yield
        updated = [name for name, metric in trial_metrics(trial).items() if metric.update_count != counts.get(name)]
    finally:
        metrics.put_back()
    if updated:
        raise ProgramError(
            f"A step of the trial updates the torchmetrics objects {', '.join(updated)}, which gather values in "
            f"Python: return tensors as metrics, {_EAGER}."
        )
    if drawn != _drawn():
        raise ProgramError(
            "A step of the trial draws random numbers from Python or numpy; a program would use the same ones for "
            f"ever. Draw them from torch (torch.rand), {_EAGER}."
        )
    if changed := [f"self.{name}" for name, value in vars(trial).items() if not _same(before.get(name), value)]:
        raise ProgramError(
            f"A step of the trial sets {', '.join(changed)}; a program runs no Python, so that would happen once. Keep "
            f"what changes in a buffer of the model, {_EAGER}."
        )


def _drawn() -> tuple[object, str]:
    """Where the random numbers of Python and numpy stand."""
    return random.getstate(), repr(np.random.get_state())  # the generator that user code draws from


def _same(before: Any, now: Any) -> bool:
    """Whether an attribute was left alone, or set for the first time to what is no result of a batch."""
    if before is now or (before is None and not isinstance(now, torch.Tensor)):
        return True
    return isinstance(now, int | float | str) and type(before) is type(now) and bool(before == now)


@contextmanager
def _leaving_steps(trial: Trial) -> Iterator[None]:
    """While the trial must not step its optimizers."""
    context = trial.context
    context.refuses_steps = (
        "train_batch steps its optimizers itself (self.context.backward, self.context.step_optimizer), which a program "
        f"does as a whole: return the loss and leave the step to the runtime, {_EAGER}."
    )
    try:
        yield
    finally:
        context.refuses_steps = None


def _input_names(batch: Any) -> list[str]:
    """A name for each part of a batch: its keys in maps, `batch_0` and so on for places in tuples and lists."""
    paths, _ = pytree.tree_flatten_with_path(batch)
    names = [re.sub(r"\W+", "_", pytree.keystr(path)).strip("_") for path, _ in paths]
    return [name if name and not name[0].isdigit() else f"batch_{name}".rstrip("_") for name in names]
