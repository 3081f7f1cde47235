"""What `trial.model` is: a function of its inputs, bound to the weights of the moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

import jax
import numpy as np
import torch

from mnist_trials.errors import TrialError
from mnist_trials_plugins.backends._jax.arrays import floats_as, from_tensor
from mnist_trials_plugins.backends._jax.networks import Network, Weights


@final
@dataclass(slots=True)
class Pass:
    """One forward pass of a batch: the weights it is made with, and what it leaves of them."""

    weights: Weights | None  # None: the first call makes them
    training: bool
    key: Any
    calls: int = 0
    used: bool = False  # whether it had anything to do with the weights


@final
class Model:
    """A trial's model. Calling it, `self.model(images)`, applies the network to the weights as they are.

    In train_batch and evaluate_batch these are the ones that the step is traced with. Where the network has an
    argument `train`, `training`, `deterministic` or `use_running_average`, it is given what fits, unless the call gives
    it itself; linen modules also have an rng "dropout" in training.
    """

    def __init__(self, network: Network, computed_in: Any, now: Callable[[], Weights]) -> None:
        """`computed_in`: the type for which weights and inputs are cast, None for theirs; `now` gives the weights."""
        self._network = network
        self._computed_in = computed_in
        self._now = now
        self._pass: Pass | None = None
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] | None = None  # of whoever wants to know of them

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        current = self._current()
        if self.calls is not None:
            self.calls.append((args, kwargs))
        if self._pass is None:
            args = jax.tree.map(_as_array, args)
        current.used = True
        key = jax.random.fold_in(current.key, current.calls)
        current.calls += 1
        if self._computed_in is not None:
            args, kwargs = floats_as((args, kwargs), self._computed_in)
        if current.weights is None:
            current.weights = self._network.init(key, args, kwargs)
        weights = current.weights
        if self._computed_in is not None:
            weights = {**weights, "params": floats_as(weights["params"], self._computed_in)}
        output, left = self._network.apply(weights, args, kwargs, current.training, key)
        current.weights = {**left, "params": current.weights["params"]}
        return output if self._computed_in is None else floats_as(output, np.float32)

    @property
    def training(self) -> bool:
        """Whether it is called to be trained."""
        return self._pass is not None and self._pass.training

    @property
    def params(self) -> Any:
        """The parameters, in the tree that `init` gave.

        Raises:
            TrialError: they are not there yet: the first call makes them.
        """
        current = self._current()
        if current.weights is None:
            raise TrialError("self.model.params is not there before the first call of self.model(...), which makes it.")
        current.used = True
        return current.weights["params"]

    @property
    def key(self) -> Any:
        """A key for random numbers of this batch's own: a function of the trial's seed and the batch's number."""
        return self._current().key

    def _current(self) -> Pass:
        return self._pass or Pass(self._now(), training=False, key=jax.random.key(0))

    @contextmanager
    def during(self, current: Pass) -> Iterator[None]:
        """The time of one forward pass."""
        before, self._pass = self._pass, current
        try:
            yield
        finally:
            self._pass = before


def _as_array(value: Any) -> Any:
    return from_tensor(value) if isinstance(value, torch.Tensor) else value
