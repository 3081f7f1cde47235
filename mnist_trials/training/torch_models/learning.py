"""Learning of a torch module by torch optimizers, stepped by the runtime."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Literal, final

import torch
from typing_extensions import override

from mnist_trials.checkpoint import CheckpointContent
from mnist_trials.clock import Clock
from mnist_trials.errors import TrialError
from mnist_trials.plugin import Spread
from mnist_trials.training.context import TrialContext
from mnist_trials.training.learning import Examine, Learning, LookUp, Steps
from mnist_trials.training.programwise.evaluation import ProgramEvaluation
from mnist_trials.training.programwise.learning import Programwise
from mnist_trials.training.programwise.step import ProgramStep, by_programs
from mnist_trials.training.torch_models.batchwise import Batchwise
from mnist_trials.training.torch_models.examination import examining
from mnist_trials.training.torch_models.models import load_weights, named_optimizers, prepare_model, weights_of
from mnist_trials.training.torch_models.optimizer_states import local_part, own_part, spread_as_saved, spread_state
from mnist_trials.training.torch_models.padding import BySample
from mnist_trials.training.torch_models.schedule import Schedules
from mnist_trials.training.torch_models.stepper import Stepper
from mnist_trials.training.trial import Trial

if TYPE_CHECKING:
    from mnist_trials.training.guard import LossGuard
    from mnist_trials.training.session import Session


@final
class TorchLearning(Learning):
    """Builds model, optimizer and schedules of a trial, in this order.

    Raises:
        TrialError: the trial built something that is none of those allowed.
    """

    def __init__(self, trial: Trial, context: TrialContext) -> None:
        self._trial = trial
        self._context = context
        self.model = prepare_model(trial, context)
        trial._optimizer = built = trial.build_optimizer(self.model)
        self.optimizers = named_optimizers(built)
        self.schedules = Schedules(trial.build_lr_scheduler(trial.optimizer))
        self.stepper = Stepper(context.execution, self.optimizers, self.schedules, context.hparams, context.notice)
        context.attach(self.stepper)
        self._by_sample = BySample(trial, context.execution, context.notice)
        self._programs = by_programs(context)
        self._evaluator = ProgramEvaluation(trial, self.model, context) if self._programs else self._by_sample

    @property
    @override
    def steps(self) -> int:
        return self.stepper.steps

    @property
    @override
    def frequency(self) -> int:
        return self.stepper.frequency

    @property
    @override
    def manual(self) -> bool:
        return self.stepper.manual

    @override
    def trainer(self, session: Session, guard: LossGuard, look_up: LookUp, clock: Clock) -> Steps:
        self.model.train()
        if self._programs:
            step = ProgramStep(self._trial, self.model, self.stepper, self._context)
            return Programwise(session, step, self.schedules, look_up, clock)
        return Batchwise(session, self.stepper, self.schedules, self._by_sample, guard, look_up, clock)

    @override
    def finish_group(self) -> None:
        self.stepper.finish_group()

    @override
    def step_schedules(self, per: Literal["epoch", "batch"]) -> None:
        self.schedules.step(per)

    @property
    @override
    def waits_for_metric(self) -> bool:
        return self.schedules.waits_for_metric

    @override
    def validated(self, metric: float) -> None:
        self.schedules.validated(metric)

    @override
    def examining(self) -> AbstractContextManager[Examine]:
        return examining(self._trial, self.model, self._context, self._evaluator)

    @override
    def parameters(self) -> Iterator[tuple[str, torch.Tensor]]:
        return ((name, local_part(parameter)) for name, parameter in self.model.named_parameters())

    @override
    def spread_parameters(self) -> Iterator[tuple[str, torch.Tensor | Spread]]:
        spread = self._context.execution.spread
        return ((name, spread(parameter)) for name, parameter in self.model.named_parameters())

    @override
    def watch_gradients(self, wanted: Callable[[], bool]) -> None:
        self.stepper.keep_gradients(wanted)

    @property
    @override
    def has_gradients(self) -> bool:
        return bool(self.stepper.kept)

    @override
    def spread_gradients(self) -> Iterator[tuple[str, torch.Tensor | Spread]]:
        kept, self.stepper.kept = self.stepper.kept, {}
        spread = self._context.execution.spread
        for name, parameter in self.model.named_parameters():
            if parameter in kept:
                yield name, spread(kept[parameter])

    @override
    def not_finite(self) -> str | None:
        names, parameters = zip(*self.parameters(), strict=True)
        finite = [torch.isfinite(parameter).all() for parameter in parameters]  # read at once: each reading waits
        execution = self._context.execution
        verdicts = execution.fetched([execution.folded(finite)]).tolist()
        return next((name for name, fine in zip(names, verdicts, strict=True) if not fine), None)

    @override
    def align(self) -> None:
        self._context.execution.align_buffers(self.model)

    @override
    def weights(self) -> dict[str, torch.Tensor | Spread]:
        execution, held = self._context.execution, self.model.state_dict()
        return {
            name: spread_as_saved(value, execution) for name, value in held.items() if isinstance(value, torch.Tensor)
        }

    @override
    def load_weights(self, content: CheckpointContent) -> None:
        load_weights(self.model, weights_of(content), self._context.execution)

    @override
    def state_dict(self) -> dict[str, Any]:
        execution = self._context.execution
        return {
            "model_extra": {k: v for k, v in self.model.state_dict().items() if not isinstance(v, torch.Tensor)},
            "optimizers": {name: spread_state(optimizer, execution) for name, optimizer in self.optimizers.items()},
            "schedules": self.schedules.state_dict(),
            "stepper": self.stepper.state_dict(),
        }

    @override
    def load_state_dict(self, state: Mapping[str, Any], gradients: Mapping[str, Any]) -> None:
        if "optimizers" not in state:
            raise TrialError(
                "The checkpoint was written by a backend with steps of its own, and only its weights are of use to "
                "this one: start from it with `searcher.source_checkpoint_uuid`, not with `resume`."
            )
        if state["optimizers"] is not None:
            self._load_optimizers(state["optimizers"])
        self.schedules.load_state_dict(state["schedules"])
        self.stepper.load_state_dict({**state["stepper"], "gradients": gradients})

    def _load_optimizers(self, states: Mapping[str, Any]) -> None:
        if list(states) != list(self.optimizers):
            raise TrialError(
                f"The checkpoint has the optimizers {list(states)}, the trial now builds {list(self.optimizers)}."
            )
        for name, optimizer in self.optimizers.items():
            try:
                optimizer.load_state_dict(own_part(states[name], optimizer, self._context.execution))
            except ValueError as error:
                raise TrialError(f"The checkpoint is of another optimizer: {error}.") from error
