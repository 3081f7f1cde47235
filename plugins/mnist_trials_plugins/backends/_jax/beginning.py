"""The weights that a training begins with: made by the model's init, or taken over from a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, final

import jax

from mnist_trials.errors import TrialError
from mnist_trials.plugin import Lesson
from mnist_trials_plugins.backends._jax import states
from mnist_trials_plugins.backends._jax.arrays import HostBatch, RowsBatch, from_tensor
from mnist_trials_plugins.backends._jax.model import Model
from mnist_trials_plugins.backends._jax.names import named, nested, refilled
from mnist_trials_plugins.backends._jax.networks import Linen, Network, Weights
from mnist_trials_plugins.backends._jax.placement import Placement
from mnist_trials_plugins.backends._jax.precision import Precision
from mnist_trials_plugins.backends._jax.programs import Programs
from mnist_trials_plugins.backends._jax.sources import source_of

_Maker = Callable[..., Weights]


@final
class Beginning:
    """Makes or loads the weights of a model."""

    def __init__(
        self, lesson: Lesson, network: Network, model: Model, placement: Placement, precision: Precision
    ) -> None:
        self._lesson = lesson
        self._network = network
        self._model = model
        self._placement = placement
        self._precision = precision

    def new(self, first: HostBatch | RowsBatch | None, key: Any) -> Weights | None:
        """New weights, placed, for a model that `first` is an input of; None where it takes one and there is none.

        Raises:
            TrialError: a parameter cannot be learnt, or a sharding rule cannot be followed.
        """
        maker = self.without_inputs(key)
        inputs: tuple[Any, ...] = (key,)
        if maker is None:
            if first is None:
                return None
            maker, inputs = self.with_inputs(), (key, source_of([first], 1, self._placement))
        shapes = jax.eval_shape(maker, *inputs)
        states.require_floats(shapes)
        made: Weights = jax.jit(maker, out_shardings=self._places(shapes))(*inputs)
        return made

    def without_inputs(self, key: Any) -> _Maker | None:
        """What makes new weights of a key alone; None where the model wants an input for it."""

        def make(key: Any) -> Weights | None:
            return self._network.begin(jax.random.fold_in(key, 0))

        if jax.eval_shape(make, key) is None:
            return None
        return lambda key: self._precision.stored(make(key))

    def with_inputs(self) -> _Maker:
        """What makes new weights of a key and a source, whose first batch is the model's first input."""
        programs = Programs(self._lesson.trial, self._model, None, self._placement)
        return lambda key, source: self._precision.stored(programs.first_weights(key, source))

    def loaded(self, given: Mapping[str, Any], now: Weights | None, key: Any) -> Weights:
        """The weights `given`, tensors by name, placed, in the tree that `now` has.

        Raises:
            TrialError: they are of another model, or nothing says how their names make a tree.
        """
        wanted = now
        if wanted is None and (maker := self.without_inputs(key)) is not None:
            wanted = jax.eval_shape(maker, key)
        tree = self._by_names(given) if wanted is None else _filled(wanted, given)
        placed: Weights = jax.device_put(tree, self._places(tree))
        return placed

    def _by_names(self, given: Mapping[str, Any]) -> Weights:
        """Without data a model that is initialised with inputs has no shapes; linen's trees are dicts throughout."""
        if not isinstance(self._network, Linen):
            raise TrialError(
                "The model's init(key, images) takes inputs, and a trial is loaded without data, so the tree of its "
                "parameters is not known here. Let it be init(key), or return a Flax linen module."
            )
        weights: Weights = self._precision.stored(nested({name: from_tensor(given[name]) for name in given}))
        return weights

    def _places(self, weights: Weights) -> Any:
        return self._placement.of_state({"weights": weights}, self._lesson.rules)["weights"]


def _filled(wanted: Weights, given: Mapping[str, Any]) -> Weights:
    try:
        filled: Weights = refilled(wanted, states.arrays(given, named(wanted)))
    except TrialError as error:
        raise TrialError(
            f"The checkpoint's weights do not fit the model that build_model() makes now: {error}."
        ) from error
    return filled
