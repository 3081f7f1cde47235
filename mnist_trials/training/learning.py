"""What a session asks of its model and of what trains it, whichever framework they are of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Literal

import torch

from mnist_trials.checkpoint import CheckpointContent
from mnist_trials.clock import Clock
from mnist_trials.plugin import Spread
from mnist_trials.training.data.feeds import Share
from mnist_trials.training.measures.metrics import Accumulator

if TYPE_CHECKING:
    from mnist_trials.training.guard import LossGuard
    from mnist_trials.training.session import Session

Examine = Callable[[Share, int, Accumulator], None]
"""Evaluates a batch, of which the number is given, and adds its metrics to those of the validation."""

LookUp = Callable[[], bool]
"""Asked between batches: whether something has come that training is to be interrupted for."""


class Steps(ABC):
    """Trains batch after batch.

    Attributes:
        data_seconds: how long training has waited for data. Whoever books it sets it back.
    """

    data_seconds = 0.0

    @abstractmethod
    def train(self, count: int) -> int:
        """Train on `count` batches, or fewer if something comes; returns how many it were.

        Schedules per batch are left to be stepped for the last one: it may yet complete a group.
        """

    def timed(self, batches: Iterator[Share], clock: Clock) -> Iterator[Share]:
        """`batches`, without an end; what is waited for each counts as `data_seconds`."""
        while True:
            started = clock.monotonic()
            batch = next(batches)
            self.data_seconds += clock.monotonic() - started
            yield batch


class Learning(ABC):
    """A trial's model, optimizers and schedules in one training."""

    @property
    @abstractmethod
    def steps(self) -> int:
        """Updates made so far."""

    @property
    @abstractmethod
    def frequency(self) -> int:
        """Batches whose gradients make one update."""

    @property
    def manual(self) -> bool:
        """Whether the trial steps its optimizers itself."""
        return False

    @abstractmethod
    def trainer(self, session: Session, guard: LossGuard, look_up: LookUp, clock: Clock) -> Steps:
        """Who trains `session`, from now on."""

    @abstractmethod
    def finish_group(self) -> None:
        """Update with what the open group of batches holds, if it holds anything."""

    @abstractmethod
    def step_schedules(self, per: Literal["epoch", "batch"]) -> None:
        """Another epoch, or the batch that `Steps.train` trained last, is done."""

    @property
    @abstractmethod
    def waits_for_metric(self) -> bool:
        """Whether a schedule needs the validation metric."""

    @abstractmethod
    def validated(self, metric: float) -> None:
        """A validation gave `metric`, which the trial is judged by."""

    @abstractmethod
    def examining(self) -> AbstractContextManager[Examine]:
        """The time of a validation."""

    @abstractmethod
    def parameters(self) -> Iterator[tuple[str, Any]]:
        """Names and tensors or arrays of all parameters, of what of them this rank holds."""

    @abstractmethod
    def spread_parameters(self) -> Iterator[tuple[str, Any]]:
        """Names of all parameters, and each as a tensor, a `Spread` or an array. A collective."""

    @abstractmethod
    def watch_gradients(self, wanted: Callable[[], bool]) -> None:
        """From now on keep the gradients of each update before which `wanted` says yes, for `spread_gradients`."""

    @property
    @abstractmethod
    def has_gradients(self) -> bool:
        """Whether there are some that `spread_gradients` has not given yet."""

    @abstractmethod
    def spread_gradients(self) -> Iterator[tuple[str, Any]]:
        """Names and the gradients kept last, once, each as a tensor, a `Spread` or an array. A collective."""

    @abstractmethod
    def not_finite(self) -> str | None:
        """The name of a parameter that is not finite, as far as this rank holds them; None where all are."""

    @abstractmethod
    def align(self) -> None:
        """Before a save: give what ranks need not agree on the values of rank 0. A collective."""

    @abstractmethod
    def weights(self) -> Mapping[str, torch.Tensor | Spread]:
        """Parameters and buffers by name, and how those lie of which several ranks hold parts."""

    @abstractmethod
    def load_weights(self, content: CheckpointContent) -> None:
        """Take over the weights of a checkpoint.

        Raises:
            TrialError: they are of another model.
        """

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """All else that a resumed training needs of them, for the top level of a checkpoint's state. A collective."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any], gradients: Mapping[str, Any]) -> None:
        """Go back to a checkpoint's state; `gradients` are those of this rank's open group.

        Raises:
            TrialError: it is of another optimizer.
        """
