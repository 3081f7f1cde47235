"""Backward passes and optimizer steps: aggregation of gradients, clipping, schedules per step."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import reduce
from typing import Any, final

import torch
from torch.nn.utils import clip_grad_value_

from mnist_trials.errors import TrialError
from mnist_trials.plugin import Execution, Spread
from mnist_trials.plugin.updates import aggregation_frequency, gradient_limits
from mnist_trials.training.torch_models.schedule import Schedules

_HPARAMS = ("aggregation_frequency", "max_gradient_norm", "max_gradient_value")


@final
class Stepper:
    """Turns losses into updates of the parameters.

    Gradients of `aggregation_frequency` batches form a group, which makes one update with the mean over all samples of
    the group. So a group cut short by the end of an epoch counts its samples as fully as any other.

    Hyperparameters:
        aggregation_frequency: batches per group, at least 1 (default 1).
        max_gradient_value: every element of the gradients is clipped to [-v, v].
        max_gradient_norm: then all gradients are scaled down to this norm, taken over all of them as one vector.

    Raises:
        TrialError: one of them is out of range.
    """

    def __init__(
        self,
        execution: Execution,
        optimizers: Mapping[str, torch.optim.Optimizer],
        schedules: Schedules,
        hparams: Mapping[str, Any],
        notice: Callable[[str], None],
    ) -> None:
        self.manual = False  # the trial does it all itself
        self.steps = 0
        self.frequency = aggregation_frequency(hparams)
        self._max_value, self._max_norm = gradient_limits(hparams)
        self._clips = self._max_norm is not None or self._max_value is not None
        self._execution = execution
        self._optimizers = dict(optimizers)
        self._single = next(iter(self._optimizers.values())) if len(self._optimizers) == 1 else None
        self._wants_closure = self._single is not None and _wants_closure(self._single)
        self._find_parameters()
        self._schedules = schedules
        self._set = [name for name in _HPARAMS if hparams.get(name) is not None]
        self._notice = notice
        self._batches = 0  # of the open group
        self._samples = 0.0  # over all data ranks, as is the next
        self._full = 0.0  # samples that the open group is to hold
        layout = execution.ranks.layout
        self._data_ranks = layout.mesh.data
        self._together = layout.size > 1
        self._always_backward = layout.shard  # it talks to the other ranks
        self._factor = 1.0  # of a manual trial's losses in the batch at hand
        self._keeps: Callable[[], bool] = _never
        self.kept: dict[torch.nn.Parameter, torch.Tensor] = {}  # gradients of the last update that was asked for
        self.program: Callable[[], None] | None = None  # clips and updates, where a captured program does that
        self._averaged: torch.optim.Optimizer | None = None  # whose gradients are those of all ranks now
        if self._together:
            for optimizer in self._optimizers.values():
                optimizer.register_step_pre_hook(self._require_averaged)

    def learn(self, loss: torch.Tensor, samples: float, whole: float) -> None:
        """Take in the loss of one batch, a mean over `samples` samples; update if this completes a group.

        `whole`: the samples of the batch over all data ranks, whose gradients are averaged later: so a loss that stands
        for more samples than others do counts for more. One that stands for none is not learnt from.
        """
        if whole == 0:
            self.leave_out()
            return
        factor = self.factor(samples, whole)
        self._add_gradients(loss if factor == 1.0 else loss * factor, samples)
        self.gathered(whole)

    def factor(self, samples: float, whole: float) -> float:
        """What the loss of the batch at hand is multiplied with; opens a group if none is open. As `learn`."""
        if self.frequency == 1:
            return samples * self._data_ranks / whole
        if self._full == 0:
            self._full = whole * self.frequency
        return samples * self._data_ranks / self._full

    def gathered(self, whole: float) -> None:
        """The gradients of the batch at hand are added to those of its group; update if this completes it."""
        if self.frequency == 1:
            self._update()
            return
        self._samples += whole
        self._close_batch()

    def _add_gradients(self, loss: torch.Tensor, samples: float) -> None:
        """Of a loss that counts nothing there are none: zero times a gradient that is not finite would not be zero."""
        if samples > 0 or self._always_backward:
            self._execution.backward(loss)

    def leave_out(self) -> None:
        """Count a batch whose loss is not to be learnt from."""
        if self.frequency > 1:
            self._close_batch()

    def _close_batch(self) -> None:
        self._batches += 1
        if self._batches == self.frequency:
            self.finish_group()

    def finish_group(self) -> None:
        """Update with what the open group holds, if it holds anything."""
        if self._samples > 0:
            if self._samples != self._full:
                self._find_parameters()
                scale = self._full / self._samples
                for parameter in self._parameters:
                    if parameter.grad is not None:
                        parameter.grad.mul_(scale)
            self._update()
        self._batches, self._samples, self._full = 0, 0.0, 0.0

    def _update(self) -> None:
        optimizer = self._single
        if optimizer is None:
            raise TrialError(
                f"build_optimizer returned {len(self._optimizers)} optimizers ({', '.join(self._optimizers)}). The "
                "runtime steps a single one; in train_batch, call self.context.backward(loss) and "
                "self.context.step_optimizer(optimizer) for each."
            )
        if self._wants_closure:
            raise TrialError(
                f"{type(optimizer).__name__} computes the loss several times per step, which the runtime cannot do "
                "for it. In train_batch, call self.optimizer.step(closure) with a closure that calls "
                "self.optimizer.zero_grad() and self.context.backward(loss) and returns the loss."
            )
        if self._groups != len(optimizer.param_groups):
            self._find_parameters()
        if self._together:
            self._average(optimizer, self._parameters)
        if self.program is None:
            self._clip_and_step(optimizer)
        else:
            self.program()
        for parameter in self._parameters:  # what zero_grad() does, without its bookkeeping
            parameter.grad = None
        self.updated()

    def updated(self) -> None:
        """Another update is made."""
        self.steps += 1
        self._schedules.step("optimizer_step")

    def _clip_and_step(self, optimizer: torch.optim.Optimizer) -> None:
        keeps = self._keeps()
        if self._clips or keeps:
            self._execution.unscale(optimizer)
        if keeps:
            self._keep(self._parameters, changed=self._clips)
        if self._clips:
            self._clip()
        self._execution.step(optimizer)

    @property
    def keeps_gradients(self) -> bool:
        """Whether somebody may ask for the gradients of an update."""
        return self._keeps is not _never

    def _clip(self) -> None:
        if self._max_value is not None:
            for parameters in self._by_mesh():
                clip_grad_value_(parameters, self._max_value)
        if self._max_norm is not None:
            self._execution.clip_gradients(self._parameters, self._max_norm)

    def keep_gradients(self, wanted: Callable[[], bool]) -> None:
        """Keep in `kept` the true gradients, not clipped yet, of each update before which `wanted` says yes."""
        self._keeps = wanted

    def _keep(self, parameters: Iterable[torch.nn.Parameter], *, changed: bool) -> None:
        """`changed`: they may be changed where they lie; else they are only let go of."""
        for parameter in parameters:
            if parameter.grad is not None:
                self.kept[parameter] = parameter.grad.clone() if changed else parameter.grad

    def _average(self, optimizer: torch.optim.Optimizer, parameters: list[torch.nn.Parameter]) -> None:
        self._execution.average_gradients(parameters)
        self._averaged = optimizer

    def _require_averaged(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        """Called by an optimizer before each of its steps."""
        if self._averaged is not optimizer:
            raise TrialError(
                f"{type(optimizer).__name__}.step() was called by the trial itself. On several slots gradients are "
                "averaged right before a step, so call self.context.step_optimizer(optimizer) instead. (An optimizer "
                "that wants a closure works on one slot only.)"
            )
        self._averaged = None

    def _by_mesh(self) -> Iterable[list[torch.nn.Parameter]]:
        """The parameters in groups of one kind: an operation on many takes plain ones, or those split over one mesh."""
        if not self._together:
            return [self._parameters]
        groups: dict[object, list[torch.nn.Parameter]] = {}
        for parameter in self._parameters:
            groups.setdefault(getattr(parameter, "device_mesh", None), []).append(parameter)
        return groups.values()

    def _find_parameters(self) -> None:
        """A callback may have added groups of parameters since the last update."""
        self._parameters = self._all_parameters()
        self._groups = self._count_groups()

    def _all_parameters(self) -> list[torch.nn.Parameter]:
        return [p for optimizer in self._optimizers.values() for p in parameters_of(optimizer)]

    def _count_groups(self) -> int:
        return sum(len(optimizer.param_groups) for optimizer in self._optimizers.values())

    def take_over(self) -> None:
        """From now on the trial calls `backward` and `step`."""
        if self.manual:
            return
        self.manual = True
        if self._set:
            self._notice(
                f"This trial steps its optimizers itself, so the runtime does nothing with {', '.join(self._set)}."
            )

    def batch_is(self, samples: float, whole: float) -> None:
        """Before a batch of several data ranks: how many samples it has here, and over all of them."""
        self._factor = samples * self._data_ranks / whole if whole > 0 else 1.0

    def backward(self, loss: torch.Tensor) -> None:
        """For a trial in manual mode. Autocast is for forward passes, and train_batch runs in it: leave it for this."""
        kind = self._execution.device.type
        autocast = torch.is_autocast_enabled(kind)
        with torch.autocast(kind, enabled=False) if autocast else nullcontext():
            self._execution.backward(loss if self._factor == 1.0 else loss * self._factor)

    def step(
        self,
        optimizer: torch.optim.Optimizer,
        clip_grads: Callable[[Iterator[torch.nn.Parameter]], object] | None,
        auto_zero_grads: bool,
    ) -> None:
        """For a trial in manual mode; see TrialContext.step_optimizer."""
        if self._together:
            self._average(optimizer, list(parameters_of(optimizer)))
        keeps = self._keeps()
        if clip_grads is not None or keeps:
            self._execution.unscale(optimizer)
        if keeps:
            self._keep(parameters_of(optimizer), changed=True)
        if clip_grads is not None:
            clip_grads(parameters_of(optimizer))
        self._execution.step(optimizer)
        if auto_zero_grads:
            optimizer.zero_grad()
        self.steps += 1
        self._schedules.step("optimizer_step", optimizer)

    def state_dict(self) -> dict[str, Any]:
        """The open group, gradients included (with the scale of the precision, if it scales), as they lie on the ranks.

        A collective where ranks hold summands of a gradient; see `Execution.spread`.
        """
        return {
            "manual": self.manual,
            "steps": self.steps,
            "batches": self._batches,
            "samples": self._samples,
            "full": self._full,
            "gradients": {
                str(i): _kept(self._execution.spread(p.grad))
                for i, p in enumerate(self._parameters)
                if p.grad is not None
            },
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to `state`."""
        self.manual = state["manual"]
        self.steps = state["steps"]
        self._batches, self._samples, self._full = state["batches"], state["samples"], state["full"]
        for index, parameter in enumerate(self._parameters):
            gradient = state["gradients"].get(str(index))
            if gradient is None:
                parameter.grad = None
            else:
                parameter.grad = self._execution.part(_brought_back(gradient).to(parameter.device), parameter)


def _never() -> bool:
    return False


def mean_of_gradients(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The mean of the `gradients` that `Stepper.state_dict` gave on each data rank; a missing one is zeros."""
    names = dict.fromkeys(name for part in parts for name in part)
    total = {name: reduce(torch.add, (_brought_back(part[name]) for part in parts if name in part)) for name in names}
    return {name: _kept(gradient / len(parts)) for name, gradient in total.items()}


def _kept(gradient: torch.Tensor | Spread) -> Any:
    """`gradient` as a checkpoint can hold it."""
    if isinstance(gradient, Spread) or gradient.layout is not torch.sparse_coo:
        return gradient
    return {"indices": gradient._indices(), "values": gradient._values(), "shape": list(gradient.shape)}


def _brought_back(kept: Any) -> torch.Tensor:
    if isinstance(kept, torch.Tensor):
        return kept
    # Newer torch warns where nobody has said whether to check.
    with torch.sparse.check_sparse_tensor_invariants(True):  # type: ignore[no-untyped-call]
        return torch.sparse_coo_tensor(kept["indices"], kept["values"], kept["shape"])


def parameters_of(optimizer: torch.optim.Optimizer) -> Iterator[torch.nn.Parameter]:
    """The parameters that `optimizer` updates."""
    for group in optimizer.param_groups:
        yield from group["params"]


def _wants_closure(optimizer: torch.optim.Optimizer) -> bool:
    """Whether `optimizer` cannot step on gradients alone, as L-BFGS cannot."""
    closure = inspect.signature(type(optimizer).step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty
