"""The compiled programs of a trial: its first weights, portions of training batches, validation batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np

from mnist_trials.errors import TrialError
from mnist_trials_plugins.backends._jax.model import Model, Pass
from mnist_trials_plugins.backends._jax.networks import Weights
from mnist_trials_plugins.backends._jax.placement import Placement
from mnist_trials_plugins.backends._jax.results import Values, explained, training_values, validation_values
from mnist_trials_plugins.backends._jax.updates import State, Updates

Source = dict[str, Any]
"""Several batches on the device, each array with one more dimension in front: "rows" (numbers) of "tables", or
"batches" themselves, or a single "batch" as it is; "counts", where of each batch only so many samples are there, and
the others fill it up."""

OwnWeights = dict[tuple[str, int], dict[str, float]]
"""(method, samples of a batch) -> the metrics that mt.weighted gave a weight."""


@final
class Programs:
    """What is compiled once for each shape of its inputs. Methods that are not named otherwise are to be traced."""

    def __init__(self, trial: Any, model: Model, updates: Updates | None, placement: Placement) -> None:
        """`updates`: None where nothing is to be learnt."""
        self._trial = trial
        self._model = model
        self._updates = updates
        self._placement = placement
        self.own_weights: OwnWeights = {}

    def first_weights(self, key: Any, source: Source) -> Weights:
        """The weights of a model that the first batch of `source` is the first input of."""
        batch = self.batch(source, 0)
        current = Pass(None, training=True, key=_of_init(key))
        zero = jnp.zeros((), np.int32)
        with self._model.during(current), explained("train_batch"):
            self._trial.train_batch(batch, zero, zero)
        if current.weights is None:
            raise TrialError("train_batch never calls self.model(...), so there is nothing to learn.")
        return current.weights

    def train(self, state: State, source: Source, count: Any, plan: dict[str, Any]) -> tuple[State, dict[str, Any]]:
        """`state` after the first `count` batches of `source`; and the metrics of each, in buffers as long as `source`.

        A loop whose length is an argument: whatever the portion, it is one program and the same numbers, where one
        `scan` would have to be compiled for every length; a `source` of a single batch needs none. `plan` has "key",
        "epoch", "first" (number of the first batch), "rates" (learning rates), "steps" (updates made when "rates"
        begin, or -1: they are by batch).
        """

        def one(state: State, index: Any) -> tuple[State, dict[str, Any]]:
            return self.learnt(state, source, index, plan)

        length = _length(source)
        if length == 1:
            state, values = one(state, np.int32(0))
            return state, {name: value.reshape(1) for name, value in values.items()}
        shapes = jax.eval_shape(one, state, jnp.zeros((), np.int32))[1]
        buffers = {name: jnp.zeros((length,), shape.dtype) for name, shape in shapes.items()}

        def body(index: Any, carry: tuple[State, dict[str, Any]]) -> tuple[State, dict[str, Any]]:
            state, values = one(carry[0], index)
            return state, {name: carry[1][name].at[index].set(value) for name, value in values.items()}

        after: tuple[State, dict[str, Any]] = jax.lax.fori_loop(0, count, body, (state, buffers))
        return after

    def learnt(self, state: State, source: Source, index: Any, plan: dict[str, Any]) -> tuple[State, dict[str, Any]]:
        """`state` after batch `index` of `source`, and its metrics. `plan` is that of `train`."""
        updates = self._updates
        assert updates is not None
        batch, number = self.batch(source, index), plan["first"] + index
        count = source["counts"][index] if "counts" in source else None

        def loss_of(params: Any) -> tuple[Any, tuple[dict[str, Any], Weights]]:
            weights = {**state["weights"], "params": params}
            key = _of_batch(plan["key"], number)
            if count is None:
                scalars, left = self.trained(weights, batch, plan["epoch"], number, key)
            else:
                scalars = _means(
                    lambda one, key: self.trained(weights, one, plan["epoch"], number, key)[0], batch, count, key
                )
                left = weights
            return scalars["loss"], (scalars, left)

        (loss, (scalars, left)), gradients = jax.value_and_grad(loss_of, has_aux=True)(state["weights"]["params"])
        size = samples_of(batch)
        samples = self.own_weights["train_batch", size].get("loss", float(size)) if count is None else count

        def rate(state: State) -> Any:
            return plan["rates"][jnp.where(plan["steps"] < 0, index, state["steps"] - plan["steps"])]

        return updates.take(state, left, gradients, loss, samples, rate), scalars

    def trained(
        self, weights: Weights, batch: Any, epoch: Any, number: Any, key: Any
    ) -> tuple[dict[str, Any], Weights]:
        """The metrics of `batch` for these weights, and the weights with what it changed beside the parameters."""
        current = Pass(weights, training=True, key=key)
        with self._model.during(current), explained("train_batch"):
            values = training_values(self._trial.train_batch(batch, epoch, number))
        if not current.used:
            raise TrialError("The loss that train_batch returned does not depend on the model: it never calls it.")
        return self._noted("train_batch", batch, values), current.weights or weights

    def finish(self, state: State, rate: Any) -> State:
        """`state` after the update of its open group."""
        assert self._updates is not None
        return self._updates.finish(state, rate)

    def evaluate(self, weights: Weights, source: Source, number: Any, key: Any) -> dict[str, Any]:
        """The validation metrics of the one batch of `source`, number `number`, each as a vector of one value."""
        batch, key = self.batch(source, 0), _of_validation(key, number)
        if "counts" in source:
            scalars = _means(
                lambda one, key: self._evaluated(weights, one, number, key), batch, source["counts"][0], key
            )
        else:
            scalars = self._evaluated(weights, batch, number, key)
        return {name: scalar.reshape(1) for name, scalar in scalars.items()}

    def _evaluated(self, weights: Weights, batch: Any, number: Any, key: Any) -> dict[str, Any]:
        with self._model.during(Pass(weights, training=False, key=key)), explained("evaluate_batch"):
            values = validation_values(self._trial.evaluate_batch(batch, number))
        return self._noted("evaluate_batch", batch, values)

    def apart(self, weights: Weights, source: Source, key: Any, *, training: bool) -> Any:
        """How far the metrics of the one batch of `source` are from the means over its samples one by one, at most.

        The model is called as it is in validations, so that nothing is random.
        """
        batch, zero = self.batch(source, 0), jnp.zeros((), np.int32)

        def metrics(batch: Any, key: Any) -> dict[str, Any]:
            if not training:
                return self._evaluated(weights, batch, zero, key)
            with self._model.during(Pass(weights, training=False, key=key)), explained("train_batch"):
                values = training_values(self._trial.train_batch(batch, zero, zero))
            return self._noted("train_batch", batch, values)

        together = metrics(batch, key)
        single = _means(metrics, batch, samples_of(batch), key)
        gaps = [abs(value - single[name]) / jnp.maximum(1.0, abs(value)) for name, value in together.items()]
        return jnp.stack(gaps).max()

    def batch(self, source: Source, index: Any) -> Any:
        """Batch `index` of `source`."""
        if "tables" in source:
            rows = source["rows"][index]
            batch: Any = tuple(jnp.take(table, rows, axis=0, mode="clip") for table in source["tables"])
        elif "batch" in source:
            batch = source["batch"]
        else:
            batch = jax.tree.map(lambda array: array[index], source["batches"])
        return self._placement.constrained(batch)

    def _noted(self, method: str, batch: Any, values: Values) -> dict[str, Any]:
        self.own_weights[method, samples_of(batch)] = values.weights
        return values.scalars


def samples_of(batch: Any) -> int:
    """The length of a batch's first array; 1 where it has none of any length."""
    return next((int(leaf.shape[0]) for leaf in jax.tree.leaves(batch) if getattr(leaf, "shape", ())), 1)


def _length(source: Source) -> int:
    return int(jax.tree.leaves(source.get("rows", source.get("batches")))[0].shape[0])


def _means(metrics: Callable[[Any, Any], dict[str, Any]], batch: Any, count: Any, key: Any) -> dict[str, Any]:
    """The means of `metrics` over the first `count` samples of `batch`, each computed as a batch of its own."""
    numbers = jnp.arange(samples_of(batch))

    def of_one(sample: Any, number: Any) -> dict[str, Any]:
        return metrics(jax.tree.map(lambda array: array[None], sample), jax.random.fold_in(key, number))

    each = jax.vmap(of_one)(batch, numbers)
    there = numbers < count
    return {name: jnp.where(there, values, 0.0).sum() / count for name, values in each.items()}


def _of_init(key: Any) -> Any:
    return jax.random.fold_in(key, 0)


def _of_batch(key: Any, number: Any) -> Any:
    return jax.random.fold_in(jax.random.fold_in(key, 1), number)


def _of_validation(key: Any, number: Any) -> Any:
    return jax.random.fold_in(jax.random.fold_in(key, 2), number)
