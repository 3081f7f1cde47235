"""Everything that a training consists of, built from the trial; what of it a checkpoint keeps."""

from __future__ import annotations

import math
from typing import Any, Final, final

from mnist_trials.checkpoint import CheckpointContent
from mnist_trials.training.agreement import require_same_data
from mnist_trials.training.callbacks import Callbacks
from mnist_trials.training.context import TrialContext
from mnist_trials.training.data.datasets import feed_to_test, make_feeds
from mnist_trials.training.data.random_state import reseed
from mnist_trials.training.data.seeds import derive_seed
from mnist_trials.training.data.stream import Stream
from mnist_trials.training.learning import Learning
from mnist_trials.training.measures.metrics import (
    Accumulator,
    compute_over,
    load_metric_state,
    metric_state,
    trial_metrics,
)
from mnist_trials.training.periods import Position
from mnist_trials.training.portions import PortionLearning, learner_of
from mnist_trials.training.programwise.step import tell_no_effect
from mnist_trials.training.saving.rank_states import OwnStates, with_own_states
from mnist_trials.training.settings import FitSettings
from mnist_trials.training.torch_models.learning import TorchLearning
from mnist_trials.training.trial import Trial

_OPTIMIZER: Final = ("optimizers", "learner")
"""Where in a state that of the optimizer is; None where a checkpoint has been saved without."""


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
        self.test = feed_to_test(trial, context)
        self.stream = Stream(training, settings.records_per_epoch)
        learner = learner_of(trial, context, training, learns=True)
        if learner is not None:
            tell_no_effect(context)
        self.learning: Learning = TorchLearning(trial, context) if learner is None else PortionLearning(learner)
        self.callbacks = Callbacks(trial.build_callbacks())
        self.training_metrics = Accumulator("train_batch", context.execution)
        self.best_metric: float | None = None
        self.best_batches: int | None = None  # trained when it was validated
        self.validated_at: int | None = None  # batches trained at the last validation
        self.validation_metrics: dict[str, float] = {}  # what it gave
        self.spares_optimizer = False  # what is saved now is to be without the optimizer's state
        self.lacks_optimizer = False  # what was loaded is
        place_metrics(trial, context)

    def is_best(self, metric: float) -> bool:
        """Whether `metric` is better than that of every validation so far."""
        if not math.isfinite(metric):
            return False
        best = self.best_metric
        return best is None or (metric < best if self.settings.smaller_is_better else metric > best)

    def state_dict(self) -> dict[str, Any]:
        """All the rest that makes a resumed training the same as an undisturbed one. A collective."""
        execution = self.context.execution
        state = {
            "position": self.position.state_dict(),
            **self.learning.state_dict(),
            "data": self.stream.state_dict(),
            "training_metrics": self.training_metrics.state_dict(),
            "metric_objects": {name: metric_state(metric) for name, metric in trial_metrics(self.trial).items()},
            "callbacks": self.callbacks.state_dict(),
            "trial": self.trial.state_dict(),
            "best_metric": self.best_metric,
            "best_batches": self.best_batches,
            "validated_at": self.validated_at,
            "validation_metrics": self.validation_metrics,
            "execution": execution.state_dict(),
        }
        if self.spares_optimizer:
            state |= {name: None for name in _OPTIMIZER if name in state}
        return with_own_states(state, execution.ranks)

    def load(self, content: CheckpointContent) -> None:
        """Go back to where `content` was saved, with the weights and what `state_dict` returned then.

        On another mesh than it was saved on, what the ranks have of their own is given back as `OwnStates` says.

        Raises:
            TrialError: they are of another model, optimizer, or data.
        """
        state, context = content.state, self.context
        self.lacks_optimizer = any(state.get(name, ()) is None for name in _OPTIMIZER)
        every = OwnStates(state)
        own = every.of(context.layout)
        self.learning.load_weights(content)
        self.learning.load_state_dict(state, own["gradients"])
        self.position = Position(**state["position"])
        self.training_metrics.load_state_dict(own["training_metrics"])
        for name, metric in trial_metrics(self.trial).items():
            if name in own["metric_objects"]:
                load_metric_state(metric, own["metric_objects"][name])
            else:
                metric.reset()
        self.callbacks.load_state_dict(state["callbacks"])
        self.trial.load_state_dict(state["trial"])
        self.best_metric, self.best_batches = state["best_metric"], state.get("best_batches")
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


def place_metrics(trial: Trial, context: TrialContext) -> None:
    """Bring the trial's torchmetrics objects to the device, and let them be computed over all data ranks."""
    for metric in trial_metrics(trial).values():
        metric.to(context.device)
        if context.layout.size > 1:
            compute_over(metric, context.execution)
