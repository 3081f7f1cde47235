"""The class that users write: a model, its data, and what one batch means."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, final

from mnist_trials.errors import TrialError
from mnist_trials.plugin import Rules
from mnist_trials.training.torch_models.optimizers import optimizer_from_hparams
from mnist_trials.training.torch_models.rates import schedules_from_hparams

if TYPE_CHECKING:
    from mnist_trials.training.context import TrialContext


class Trial(ABC):
    """One training with one set of hyperparameters. Four methods are yours to write, the others have defaults.

    The runtime calls the `build_` methods once each, in the order data, model, optimizer, schedule, callbacks, and
    trains with what they return. docs/trial.md tells the whole story with examples.
    """

    _model: Any = None
    _optimizer: Any = None
    _learner: Any = None  # of a backend that has a way of its own

    def __init__(self, context: TrialContext) -> None:
        self.context = context

    @abstractmethod
    def build_model(self) -> Any:
        """The model: a torch.nn.Module, or a dict of named ones."""

    @abstractmethod
    def build_data(self) -> Any:
        """Training and validation data, in this order: each a Dataset, a DataLoader, or an mt.TensorData."""

    def build_test_data(self) -> Any:
        """The data that nothing is chosen by, made as `build_data` makes its own. None: there is none.

        `evaluate --split test` looks at it; and, with the hyperparameter `run_test: true`, the end of training, with
        the weights of the best checkpoint, once.
        """
        return None

    @abstractmethod
    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        """The loss of `batch` (a scalar tensor), or a dict of metrics with the loss as "loss".

        The runtime does the backward pass and the optimizer step. `batch` lies on the device. `epoch_idx` counts
        epochs and `batch_idx` counts batches since the start of training, both from 0.
        """

    @abstractmethod
    def evaluate_batch(self, batch: Any, batch_idx: int) -> Mapping[str, Any]:
        """The validation metrics of `batch`, by name.

        Called in eval mode and without gradients; `batch_idx` counts from 0 in every validation.
        """

    def build_optimizer(self, model: Any) -> Any:
        """The optimizer of `model`, which is prepared and on the device.

        A trial that steps its optimizers itself may return several in a dict by name. By default: what the
        hyperparameters `optimizer` and `learning_rate` say.
        """
        return optimizer_from_hparams(model.parameters(), self.context.hparams)

    def build_lr_scheduler(self, optimizer: Any) -> Any:
        """A torch learning-rate scheduler (stepped after every epoch), an mt.LRSchedule, or several in a list.

        By default: what the hyperparameter `lr_schedule` says.
        """
        return schedules_from_hparams(optimizer, self.context.hparams)

    def sharding_rules(self) -> Rules:
        r"""How parameters are split over the slots of a mesh with a tensor dimension; see docs/distributed.md.

            return {r"layers\.0\.weight": (None, "tensor"), r"layers\.2\.weight": ("tensor", None)}

        A regular expression for whole names of parameters, as `model.named_parameters()` gives them -> for each
        dimension of the parameter "tensor" or None. On a mesh without a tensor dimension they have no effect.
        """
        return {}

    def build_callbacks(self) -> Any:
        """Callbacks in a list, or in a dict by name."""
        return []

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must keep of the trial beyond model, optimizer and schedules."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to what `state_dict` returned."""

    @final
    @property
    def model(self) -> Any:
        """The prepared model: a module on the device, or a torch.nn.ModuleDict of the named ones.

        Raises:
            TrialError: it is not built yet.
        """
        if self._model is None:
            raise TrialError("self.model is not there yet: it is made from what build_model() returns.")
        return self._model

    @final
    @property
    def optimizer(self) -> Any:
        """The optimizer, or the dict of named ones.

        Raises:
            TrialError: it is not built yet, or there is none because the trial was loaded for inference.
        """
        if self._optimizer is None:
            raise TrialError("self.optimizer is not there: it is made from what build_optimizer() returns, in fit().")
        return self._optimizer
