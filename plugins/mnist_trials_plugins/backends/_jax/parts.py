"""A trial's steps and their parts as functions of named arrays, of which one says all there is to know."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, final

import jax
import jax.numpy as jnp
import numpy as np

from mnist_trials.errors import TrialError
from mnist_trials_plugins.backends._jax.beginning import Beginning
from mnist_trials_plugins.backends._jax.model import Model, Pass
from mnist_trials_plugins.backends._jax.names import named, refilled
from mnist_trials_plugins.backends._jax.networks import Weights
from mnist_trials_plugins.backends._jax.programs import Programs, samples_of
from mnist_trials_plugins.backends._jax.updates import State, Updates

_RANDOM: Final = "threefry2x32"
_BY_BATCH: Final = -1  # of a plan: its rates are not by update


@final
@dataclass(frozen=True, slots=True)
class Part:
    """A pure function of arrays by name, which gives arrays by name, and the shapes that it takes."""

    name: str
    function: Callable[[Mapping[str, Any]], dict[str, Any]]
    inputs: Mapping[str, jax.ShapeDtypeStruct]

    @classmethod
    def of(cls, name: str, function: Callable[..., Any], **trees: Any) -> Part:
        """`function` of trees by keyword, which gives a dict of trees; names of leaves begin with the tree's."""

        def flat(given: Mapping[str, Any]) -> dict[str, Any]:
            taken = {
                group: refilled(tree, {leaf: given[_joined(group, leaf)] for leaf in named(tree)})
                for group, tree in trees.items()
            }
            return _flattened(function(**taken))

        return cls(name, flat, {leaf: _described(value) for leaf, value in _flattened(trees).items()})


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Makes the parts of one trial, for batches like `batch` in training and `examined` in validations.

    Each takes "key", two words of 32 bits, where it may draw random numbers.
    """

    programs: Programs
    updates: Updates
    model: Model
    beginning: Beginning
    state: State  # or its shapes
    batch: Any
    examined: Any

    def all(self) -> Iterator[Callable[[], Part]]:
        """What makes each, as one that cannot be made should not stand in the way of the others."""
        yield self.init
        yield lambda: self.forward(training=True)
        yield lambda: self.forward(training=False)
        yield self.loss
        yield self.gradients
        yield self.optimizer
        yield self.train_step
        yield self.evaluation

    def init(self) -> Part:
        """The first weights."""
        without = self.beginning.without_inputs(jax.random.key(0))
        if without is not None:
            return Part.of("init", lambda key: {"weights": without(_key(key))}, key=_words())
        maker = self.beginning.with_inputs()

        def init(key: Any, batch: Any) -> dict[str, Any]:
            return {"weights": maker(_key(key), {"batch": batch})}

        return Part.of("init", init, key=_words(), batch=self.batch)

    def forward(self, *, training: bool) -> Part:
        """The model itself, with what train_batch or evaluate_batch call it with first."""
        leaves, structure = jax.tree.flatten(self._first_call(training=training))
        arrays = [leaf for leaf in leaves if isinstance(leaf, jax.ShapeDtypeStruct)]

        def apply(weights: Weights, input: Any, key: Any) -> dict[str, Any]:  # noqa: A002 - what the array is called
            given = iter(input)
            filled = [next(given) if isinstance(leaf, jax.ShapeDtypeStruct) else leaf for leaf in leaves]
            args, kwargs = jax.tree.unflatten(structure, filled)
            with self.model.during(Pass(weights, training=training, key=_key(key))):
                return {"output": self.model(*args, **kwargs)}

        name = "forward_train" if training else "forward_eval"
        return Part.of(name, apply, weights=self.state["weights"], input=arrays, key=_words())

    def _first_call(self, *, training: bool) -> Any:
        """Arguments by position and by name, with shapes for arrays."""
        calls: list[Any] = []

        def call(weights: Weights, batch: Any, key: Any) -> Any:
            self.model.calls = []
            try:
                if training:
                    return self.programs.trained(weights, batch, _zero(), _zero(), key)[0]
                return self.programs.evaluate(weights, {"batch": batch}, _zero(), key)
            finally:
                calls.extend(jax.tree.map(_described, self.model.calls[:1]))
                self.model.calls = None

        jax.eval_shape(call, self.state["weights"], self.batch if training else self.examined, jax.random.key(0))
        if not calls:
            raise TrialError("the model is never called")
        return calls[0]

    def loss(self) -> Part:
        """What train_batch gives."""

        def loss(weights: Weights, batch: Any, epoch: Any, number: Any, key: Any) -> dict[str, Any]:
            return self.programs.trained(weights, batch, epoch, number, _key(key))[0]

        return Part.of("loss", loss, weights=self.state["weights"], batch=self.batch, **_place(), key=_words())

    def gradients(self) -> Part:
        """What train_batch gives, and the gradients of its loss."""

        def gradients(weights: Weights, batch: Any, epoch: Any, number: Any, key: Any) -> dict[str, Any]:
            def loss_of(params: Any) -> Any:
                now = {**weights, "params": params}
                scalars, _ = self.programs.trained(now, batch, epoch, number, _key(key))
                return scalars["loss"], scalars

            found, scalars = jax.grad(loss_of, has_aux=True)(weights["params"])
            return {**scalars, "gradients": found}

        weights = self.state["weights"]
        return Part.of("gradients", gradients, weights=weights, batch=self.batch, **_place(), key=_words())

    def optimizer(self) -> Part:
        """The update that gradients make, with clipping."""

        def update(state: State, gradients: Any, learning_rate: Any) -> dict[str, Any]:
            zero = jnp.zeros((), np.float32)
            after = self.updates.take(
                state, state["weights"], gradients, zero, samples_of(self.batch), lambda _: learning_rate
            )
            return {"state": after if self.updates.frequency == 1 else self.updates.finish(after, learning_rate)}

        gradients = self.state["weights"]["params"]
        return Part.of("optimizer", update, state=self.state, gradients=gradients, learning_rate=_rate())

    def train_step(self) -> Part:
        """Forward, loss, backward, clipping and update of one batch."""

        def step(state: State, batch: Any, epoch: Any, number: Any, key: Any, learning_rate: Any) -> dict[str, Any]:
            plan = {"key": _key(key), "epoch": epoch, "first": number, "rates": learning_rate[None], "steps": _BY_BATCH}
            after, scalars = self.programs.learnt(state, {"batch": batch}, 0, plan)
            if self.updates.frequency > 1:
                after = self.updates.finish(after, learning_rate)
            return {**scalars, "state": after}

        return Part.of(
            "train_step",
            step,
            state=self.state,
            batch=self.batch,
            **_place(),
            key=_words(),
            learning_rate=_rate(),
        )

    def evaluation(self) -> Part:
        """What evaluate_batch gives."""

        def evaluate(weights: Weights, batch: Any, number: Any, key: Any) -> dict[str, Any]:
            values = self.programs.evaluate(weights, {"batch": batch}, number, _key(key))
            return {name: value.reshape(()) for name, value in values.items()}

        weights, number = self.state["weights"], jax.ShapeDtypeStruct((), np.int32)
        return Part.of("evaluation", evaluate, weights=weights, batch=self.examined, number=number, key=_words())


def _flattened(trees: Mapping[str, Any]) -> dict[str, Any]:
    return {_joined(group, name): leaf for group, tree in trees.items() for name, leaf in named(tree).items()}


def _joined(group: str, name: str) -> str:
    return f"{group}.{name}" if name else group


def _described(value: Any) -> Any:
    return jax.ShapeDtypeStruct(value.shape, value.dtype) if hasattr(value, "shape") else value


def _key(words: Any) -> Any:
    return jax.random.wrap_key_data(words, impl=_RANDOM)


def _words() -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((2,), np.uint32)


def _rate() -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((), np.float32)


def _zero() -> Any:
    return jnp.zeros((), np.int32)


def _place() -> dict[str, jax.ShapeDtypeStruct]:
    """The numbers of epoch and batch."""
    return {name: jax.ShapeDtypeStruct((), np.int32) for name in ("epoch", "number")}
