"""Everything that a training consists of, built from the trial; what of it a checkpoint keeps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, final

import torch

from mnist_trials.checkpoint import CheckpointContent
from mnist_trials.errors import TrialError
from mnist_trials.plugin import Execution
from mnist_trials.training.agreement import require_same_data
from mnist_trials.training.callbacks import Callbacks
from mnist_trials.training.context import TrialContext
from mnist_trials.training.datasets import make_feeds
from mnist_trials.training.metrics import Accumulator, compute_over, load_metric_state, metric_state, trial_metrics
from mnist_trials.training.optimizer_states import own_part, whole_state
from mnist_trials.training.periods import Position
from mnist_trials.training.random_state import reseed
from mnist_trials.training.rank_states import OwnStates, with_own_states
from mnist_trials.training.schedule import Schedules
from mnist_trials.training.seeds import derive_seed
from mnist_trials.training.settings import FitSettings
from mnist_trials.training.stepper import Stepper
from mnist_trials.training.stream import Stream
from mnist_trials.training.trial import Trial


@final
class Session:
    """One training in this process."""

    def __init__(self, trial: Trial, context: TrialContext, settings: FitSettings) -> None:
        """Build data, model, optimizer, schedules and callbacks, in this order.

        Raises:
            TrialError: the trial built something that is none of those allowed.
            DataError: there is no data.
        """
        self.trial = trial
        self.context = context
        self.settings = settings
        self.position = Position()
        training, self.validation = make_feeds(trial.build_data(), context)
        require_same_data(context.execution.ranks, context.datasets, training, self.validation)
        self.stream = Stream(training, settings.records_per_epoch)
        self.model = prepare_model(trial, context)
        trial._optimizer = built = trial.build_optimizer(self.model)
        self.optimizers = _named_optimizers(built)
        self.schedules = Schedules(trial.build_lr_scheduler(trial.optimizer))
        self.callbacks = Callbacks(trial.build_callbacks())
        self.stepper = Stepper(context.execution, self.optimizers, self.schedules, context.hparams, context.notice)
        context.attach(self.stepper)
        self.training_metrics = Accumulator("train_batch")
        self.best_metric: float | None = None
        self.validated_at: int | None = None  # batches trained at the last validation
        self.validation_metrics: dict[str, float] = {}  # what it gave
        place_metrics(trial, context)

    def is_best(self, metric: float) -> bool:
        """Whether `metric` is better than that of every validation so far."""
        if not math.isfinite(metric):
            return False
        best = self.best_metric
        return best is None or (metric < best if self.settings.smaller_is_better else metric > best)

    def model_state(self) -> dict[str, torch.Tensor]:
        """Parameters and buffers by name, whole. A collective."""
        whole = self.context.execution.whole
        return {
            name: whole(value) for name, value in self.model.state_dict().items() if isinstance(value, torch.Tensor)
        }

    def state_dict(self) -> dict[str, Any]:
        """All the rest that makes a resumed training the same as an undisturbed one. A collective."""
        extra = {k: v for k, v in self.model.state_dict().items() if not isinstance(v, torch.Tensor)}
        execution = self.context.execution
        state = {
            "position": self.position.state_dict(),
            "model_extra": extra,
            "optimizers": {name: whole_state(optimizer, execution) for name, optimizer in self.optimizers.items()},
            "schedules": self.schedules.state_dict(),
            "stepper": self.stepper.state_dict(),
            "data": self.stream.state_dict(),
            "training_metrics": self.training_metrics.state_dict(),
            "metric_objects": {name: metric_state(metric) for name, metric in trial_metrics(self.trial).items()},
            "callbacks": self.callbacks.state_dict(),
            "trial": self.trial.state_dict(),
            "best_metric": self.best_metric,
            "validated_at": self.validated_at,
            "validation_metrics": self.validation_metrics,
            "execution": execution.state_dict(),
        }
        return with_own_states(state, execution.ranks)

    def load(self, content: CheckpointContent) -> None:
        """Go back to where `content` was saved, with what `model_state` and `state_dict` returned then.

        On another mesh than it was saved on, what the ranks have of their own is given back as `OwnStates` says.

        Raises:
            TrialError: they are of another model, optimizer, or data.
        """
        state, context = content.state, self.context
        every = OwnStates(state)
        own = every.of(context.layout)
        load_weights(self.model, weights_of(content), context.execution)
        self._load_optimizers(state["optimizers"])
        self.schedules.load_state_dict(state["schedules"])
        self.stepper.load_state_dict({**state["stepper"], "gradients": own["gradients"]})
        self.position = Position(**state["position"])
        self.training_metrics.load_state_dict(own["training_metrics"])
        for name, metric in trial_metrics(self.trial).items():
            if name in own["metric_objects"]:
                load_metric_state(metric, own["metric_objects"][name])
            else:
                metric.reset()
        self.callbacks.load_state_dict(state["callbacks"])
        self.trial.load_state_dict(state["trial"])
        self.best_metric = state["best_metric"]
        self.validated_at, self.validation_metrics = state["validated_at"], state["validation_metrics"]
        skipped = self.stream.load_state_dict(state["data"])
        if skipped:
            context.notice(
                f"The training DataLoader has a sampler or data set of its own, so it is read again up to batch "
                f"{skipped} of its pass to go on after it."
            )
        context.execution.load_state_dict(own["execution"])  # last: the user's code above may draw numbers
        if not every.fits(context.layout):
            self._go_on_elsewhere(every)

    def _go_on_elsewhere(self, every: OwnStates) -> None:
        """Random numbers and a notice where the data is split over more or fewer slots than before."""
        context, data_rank = self.context, self.context.layout.data_rank
        if data_rank:
            reseed(derive_seed(context.seed, "rank", data_rank, self.position.batches))
        objects = every.open_objects()
        anew = f", and the torchmetrics objects {', '.join(objects)} begin their period anew" if objects else ""
        context.notice(
            f"The checkpoint was written where the data was split over {every.mesh['data']} slots; now it is over "
            f"{context.data_rank.of}. Weights, optimizer and position are exactly those of the checkpoint; random "
            f"numbers (of dropout and the like) are not those of an undisturbed training{anew}."
        )

    def _load_optimizers(self, states: Mapping[str, Any]) -> None:
        if list(states) != list(self.optimizers):
            raise TrialError(
                f"The checkpoint has the optimizers {list(states)}, the trial now builds {list(self.optimizers)}."
            )
        for name, optimizer in self.optimizers.items():
            try:
                optimizer.load_state_dict(own_part(states[name], optimizer, self.context.execution))
            except ValueError as error:
                raise TrialError(f"The checkpoint is of another optimizer: {error}.") from error


def place_metrics(trial: Trial, context: TrialContext) -> None:
    """Bring the trial's torchmetrics objects to the device, and let them be computed over all data ranks."""
    for metric in trial_metrics(trial).values():
        metric.to(context.device)
        if context.layout.size > 1:
            compute_over(metric, context.execution)


def prepare_model(trial: Trial, context: TrialContext) -> torch.nn.Module:
    """Build the trial's model and bring it to the device; `trial.model` is it from then on.

    Raises:
        TrialError: `build_model` returned no module, or a sharding rule cannot be followed.
    """
    built = trial.build_model()
    if isinstance(built, torch.nn.Module):
        model: torch.nn.Module = built
    elif isinstance(built, Mapping) and built and all(isinstance(m, torch.nn.Module) for m in built.values()):
        model = torch.nn.ModuleDict(dict(built))
    else:
        raise TrialError(
            f"build_model must return a torch.nn.Module, or a dict of named ones; it returned {type(built).__name__}."
        )
    rules, tensor_ranks = trial.sharding_rules(), context.planned_mesh.tensor
    if tensor_ranks > context.layout.mesh.tensor:
        context.execution.check_rules(model, rules, tensor_ranks)
    trial._model = model = context.execution.prepare(model, rules)
    return model


def weights_of(content: CheckpointContent) -> dict[str, Any]:
    """Parameters and buffers by name, and what modules keep beside them (`get_extra_state`)."""
    return {**content.model, **content.state.get("model_extra", {})}


def load_weights(model: torch.nn.Module, weights: Mapping[str, Any], execution: Execution) -> None:
    """Load parameters, buffers and extra state, all of them; of each tensor what this rank holds of it.

    Raises:
        TrialError: names or shapes differ; the text says which.
    """
    held = {name: execution.part(weights[name], like) for name, like in _of_one_shape(model, weights)}
    try:
        model.load_state_dict({**weights, **held})
    except RuntimeError as error:
        raise TrialError(
            f"The checkpoint's weights do not fit the model that build_model() makes now: {error}"
        ) from error


def _of_one_shape(model: torch.nn.Module, weights: Mapping[str, Any]) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of `model` that `weights` has in the same shape. The others are an error that torch tells."""
    for name, like in model.state_dict().items():
        saved = weights.get(name)
        if isinstance(saved, torch.Tensor) and isinstance(like, torch.Tensor) and saved.shape == like.shape:
            yield name, like


def _named_optimizers(built: object) -> dict[str, torch.optim.Optimizer]:
    named = built if isinstance(built, Mapping) else {"optimizer": built}
    if not named or not all(isinstance(optimizer, torch.optim.Optimizer) for optimizer in named.values()):
        raise TrialError(
            "build_optimizer must return a torch optimizer, or a dict of named ones; it returned "
            f"{type(built).__name__}."
        )
    return dict(named)
