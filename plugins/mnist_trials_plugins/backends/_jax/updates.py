"""From gradients to updates: groups of batches, clipping, the optimizer; all of it traced."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mnist_trials.plugin.updates import aggregation_frequency, gradient_limits
from mnist_trials_plugins.backends._jax.networks import Weights
from mnist_trials_plugins.backends._jax.optimizers import Optimizer

State = dict[str, Any]
"""A training as one tree on the device: "weights", "optimizer" (its state), "steps" (updates made); where gradients are
aggregated "sums" (of gradients times samples) and "group" ("batches", "samples"); where they are kept "gradients"."""


@final
class Updates:
    """Turns the gradients of batches into updates.

    Hyperparameters, with the meaning that they have for torch:
        aggregation_frequency: batches per group, which makes one update with the mean over all samples of the group.
        max_gradient_value: every element of the gradients is clipped to [-v, v].
        max_gradient_norm: then all gradients are scaled down to this norm, taken over all of them as one vector.

    Raises:
        TrialError: one of them is out of range.
    """

    def __init__(self, optimizer: Optimizer, hparams: Mapping[str, Any], *, skips: bool, keeps: bool) -> None:
        """`skips`: leave out batches whose loss is not finite; `keeps`: the gradients of the last update stay."""
        self.optimizer = optimizer
        self.frequency = aggregation_frequency(hparams)
        self._max_value, self._max_norm = gradient_limits(hparams)
        self._skips = skips
        self._keeps = keeps

    def begin(self, weights: Weights) -> State:
        """The state of a training that begins with `weights`."""
        params = weights["params"]
        state: State = {
            "weights": weights,
            "optimizer": self.optimizer.transformation.init(params),
            "steps": jnp.zeros((), np.int32),
        }
        if self.frequency > 1:
            state["sums"] = jax.tree.map(lambda p: jnp.zeros(p.shape, np.float32), params)
            state["group"] = {"batches": jnp.zeros((), np.int32), "samples": jnp.zeros((), np.float32)}
        if self._keeps:
            state["gradients"] = jax.tree.map(jnp.zeros_like, params)
        return state

    def take(
        self, state: State, weights: Weights, gradients: Any, loss: Any, samples: Any, rate: Callable[[State], Any]
    ) -> State:
        """`state` after a batch of `samples`, which left `weights` and gave `loss` with these `gradients`.

        `rate` gives the learning rate of the next update of a state.
        """
        if isinstance(samples, float) and samples == 0:  # a weight of the trial's own
            after = state
        elif self.frequency == 1:
            after = self._updated({**state, "weights": weights}, gradients, rate(state))
        else:
            sums = jax.tree.map(lambda s, g: s + g.astype(np.float32) * samples, state["sums"], gradients)
            group = {**state["group"], "samples": state["group"]["samples"] + samples}
            after = {**state, "weights": weights, "sums": sums, "group": group}
        if self._skips:
            finite = jnp.isfinite(loss)
            after = jax.tree.map(lambda new, old: jnp.where(finite, new, old), after, state)
        return after if self.frequency == 1 else self._closed(after, rate)

    def _closed(self, state: State, rate: Callable[[State], Any]) -> State:
        batches = state["group"]["batches"] + 1
        after = {**state, "group": {**state["group"], "batches": batches}}
        closed: State = jax.lax.cond(batches == self.frequency, lambda s: self.finish(s, rate(s)), lambda s: s, after)
        return closed

    def finish(self, state: State, rate: Any) -> State:
        """`state` after the update of the group that is open, if it holds any sample."""
        samples = state["group"]["samples"]

        def update(state: State) -> State:
            mean = jax.tree.map(lambda s, p: (s / samples).astype(p.dtype), state["sums"], state["weights"]["params"])
            return self._updated(state, mean, rate)

        after = jax.lax.cond(samples > 0, update, lambda s: s, state)
        return {**after, "sums": jax.tree.map(jnp.zeros_like, after["sums"]), "group": _zeros(after["group"])}

    def _updated(self, state: State, gradients: Any, rate: Any) -> State:
        params = state["weights"]["params"]
        clipped = self._clipped(gradients)
        directions, optimizer = self.optimizer.transformation.update(clipped, state["optimizer"], params)
        if self.optimizer.rate is not None:
            directions = jax.tree.map(lambda d: -rate * d, directions)
        weights = {**state["weights"], "params": optax.apply_updates(params, directions)}
        after = {**state, "weights": weights, "optimizer": optimizer, "steps": state["steps"] + 1}
        return {**after, "gradients": gradients} if self._keeps else after

    def _clipped(self, gradients: Any) -> Any:
        if (value := self._max_value) is not None:
            gradients = jax.tree.map(lambda g: jnp.clip(g, -value, value), gradients)
        if self._max_norm is not None:
            scale = jnp.minimum(1.0, self._max_norm / (optax.tree.norm(gradients) + 1e-6))  # as torch has it
            gradients = jax.tree.map(lambda g: (g * scale).astype(g.dtype), gradients)
        return gradients


def _zeros(tree: dict[str, Any]) -> dict[str, Any]:
    return {name: jnp.zeros_like(leaf) for name, leaf in tree.items()}
