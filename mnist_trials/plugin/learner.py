"""What a learner is: the model of a trial and the steps that change it, on a framework with a way of its own.

A backend whose trials are torch modules, stepped by torch optimizers, has none: the runtime steps those itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, final

from mnist_trials.plugin.backend import Rules
from mnist_trials.plugin.inspection import Inspection
from mnist_trials.plugin.lowering import Lowered, Refused

if TYPE_CHECKING:
    import torch


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """What a learner is made from."""

    trial: Any  # its build_model, train_batch and evaluate_batch are the learner's to call
    hparams: Mapping[str, Any]
    build_optimizer: Callable[[Any], Any] | None  # the trial's own, of the model; None: what the hyperparameters say
    rules: Rules  # the trial's sharding rules
    first_batch: Callable[[], Any] | None  # gives a training batch, for its shapes; None: weights are loaded next
    learns: bool  # False: it is only to evaluate
    skips: bool = False  # batches whose loss is not finite are left out; what they measured weighs nothing
    keeps_gradients: bool = False  # `Learner.gradients` is to be asked
    notice: Callable[[str], None]


@final
@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """A batch of data that lie in memory as a whole: the rows `chosen` (int64, on the CPU) of each of `tables`.

    Every batch of the same data has the same `tables` object, which is not changed.
    """

    tables: tuple[torch.Tensor, ...]
    chosen: torch.Tensor


@final
@dataclass(frozen=True, slots=True)
class Measured:
    """The values of one metric, one for each of some batches, and what each weighs in a mean."""

    values: Any  # a vector where it was computed; `Execution.fetched` reads it
    weights: Sequence[float]


class Learner(ABC):
    """A trial's model, optimizer and schedules. Not thread-safe; lives as long as the training.

    A batch is one that `Execution.to_device` has given. `samples` counts those of it that are there: the last batch of
    a pass may be shorter than the others, and each of its samples counts as fully as any other.
    """

    @property
    @abstractmethod
    def model(self) -> Any:
        """What `trial.model` is."""

    @property
    @abstractmethod
    def optimizer(self) -> Any:
        """What `trial.optimizer` is; None where it is only to evaluate."""

    @property
    @abstractmethod
    def steps(self) -> int:
        """Updates made so far."""

    @property
    def frequency(self) -> int:
        """Batches whose gradients make one update."""
        return 1

    @abstractmethod
    def portion(self, count: int) -> int:
        """How many of the next `count` batches it takes at once; 1 to `count`."""

    @abstractmethod
    def learn(self, batches: Sequence[Any], samples: Sequence[int], epoch: int, first: int) -> Mapping[str, Measured]:
        """Learn from as many batches as `portion` said, of epoch `epoch`, the first being batch `first`.

        Returns the metrics of each, the loss as "loss", without waiting for the device.

        Raises:
            TrialError: the trial broke the rules of the Trial interface.
        """

    @abstractmethod
    def finish_group(self) -> None:
        """Update with what was gathered of an incomplete group of `frequency` batches."""

    def step_schedules(self, per: Literal["epoch", "batch"]) -> None:
        """Another epoch, or another portion of batches, is done."""

    def validated(self, metric: float) -> None:
        """A validation gave `metric`, which the trial is judged by."""

    @property
    def waits_for_metric(self) -> bool:
        """Whether `validated` makes a difference."""
        return False

    @abstractmethod
    def evaluate(self, batch: Any, samples: int, index: int) -> Mapping[str, Measured]:
        """The validation metrics of batch `index`, with vectors of one value; does not wait for the device.

        Raises:
            TrialError: the trial broke the rules of the Trial interface.
        """

    @abstractmethod
    def parameters(self) -> Iterator[tuple[str, Any]]:
        """Names and arrays of all parameters, as they are now."""

    def inspected(self, batch: Any, samples: int, examined: Any, of_them: int) -> Inspection | None:
        """What a train step of `batch` and an evaluation of `examined` consist of; None: it does not tell.

        `samples` and `of_them` are how many samples of each count. Nothing of the learner is changed.

        Raises:
            TrialError: the trial broke the rules of the Trial interface.
        """
        return None

    def lowered(
        self, batch: Any, samples: int, examined: Any, of_them: int, platforms: Sequence[str]
    ) -> Iterator[Lowered | Refused]:
        """The parts of its steps, for batches like these, as programs for `platforms` (such as cpu, cuda, tpu).

        It asks for no device. Nothing comes where it can lower none. Nothing of the learner is changed.
        """
        return iter(())

    def gradients(self) -> Iterator[tuple[str, Any]]:
        """Names and arrays of the gradients of the last update, where they are kept."""
        return iter(())

    @abstractmethod
    def not_finite(self) -> str | None:
        """The name of a parameter that is not finite; None where all are."""

    @abstractmethod
    def weights(self) -> dict[str, torch.Tensor]:
        """Parameters and buffers by dotted name, whole, as tensors on the CPU that do not change later."""

    @abstractmethod
    def load_weights(self, weights: Mapping[str, Any]) -> None:
        """Take over what `weights` gave.

        Raises:
            TrialError: names or shapes differ; the text says which.
        """

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Optimizer, schedules, the open group: tensors and JSON values only."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to `state`.

        Raises:
            TrialError: it is of another optimizer.
        """
