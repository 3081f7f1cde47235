"""The learner: a trial's model and the programs that train and evaluate it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np
import torch
from typing_extensions import override

from mnist_trials.errors import TrialError
from mnist_trials.plugin import Inspection, Learner, Lesson, Lowered, Measured, Refused
from mnist_trials_plugins.backends._jax import sources, states
from mnist_trials_plugins.backends._jax.arrays import HostBatch, RowsBatch, Series
from mnist_trials_plugins.backends._jax.beginning import Beginning
from mnist_trials_plugins.backends._jax.compilations import Compilations
from mnist_trials_plugins.backends._jax.exporting import lowered
from mnist_trials_plugins.backends._jax.inspection import inspected
from mnist_trials_plugins.backends._jax.model import Model
from mnist_trials_plugins.backends._jax.names import named, refilled
from mnist_trials_plugins.backends._jax.networks import Weights, network_of
from mnist_trials_plugins.backends._jax.optimizers import Optimizer, make_optimizer
from mnist_trials_plugins.backends._jax.pace import Pace
from mnist_trials_plugins.backends._jax.parts import Parts
from mnist_trials_plugins.backends._jax.placement import Placement
from mnist_trials_plugins.backends._jax.precision import Precision
from mnist_trials_plugins.backends._jax.primitives import primitives
from mnist_trials_plugins.backends._jax.programs import Programs
from mnist_trials_plugins.backends._jax.rates import Rates
from mnist_trials_plugins.backends._jax.results import explained
from mnist_trials_plugins.backends._jax.short import ShortBatches
from mnist_trials_plugins.backends._jax.skipping import Skipped
from mnist_trials_plugins.backends._jax.updates import State, Updates

Batch = HostBatch | RowsBatch


@final
class JaxLearner(Learner):
    """Trains on a mesh of devices, whole portions of batches in one call of one compiled program."""

    def __init__(
        self,
        lesson: Lesson,
        placement: Placement,
        precision: Precision,
        key: Callable[[], Any],
        compilations: Compilations,
    ) -> None:
        """`key` gives the key of all random numbers, as it is now.

        Raises:
            TrialError: the trial's model, optimizer, rules or hyperparameters are no good.
        """
        self._lesson = lesson
        self._placement = placement
        self._key = key
        self._compilations = compilations
        network = network_of(lesson.trial.build_model())
        self._model = Model(network, precision.computed, lambda: self._weights)
        lesson.trial._model = self._model  # train_batch is traced for the first weights already
        self._beginning = Beginning(lesson, network, self._model, placement, precision)
        self._state: State | None = None
        self._updates: Updates | None = None
        self._optimizer: Optimizer | None = None
        self._full: dict[bool, int] = {}  # samples of a whole batch, in training and in validations
        self._steps = 0
        self._in_group = 0
        self._pace = Pace()
        self._one_by_one: bool | None = None  # whether each batch is a call of its own; not known before the first
        self._skipped = Skipped(lesson.notice) if lesson.skips else None
        self._begin()

    def _begin(self) -> None:
        lesson = self._lesson
        if lesson.learns:
            self._require_even_batches()
        first: Batch | None = None
        if lesson.first_batch is not None:
            first = lesson.first_batch()
            self._full[True] = sources.size_of(first)
        weights = self._beginning.new(first, self._key())
        if weights is not None:
            self._take(weights)

    def _require_even_batches(self) -> None:
        for name in ("global_batch_size", "batch_size"):
            if isinstance(size := self._lesson.hparams.get(name), int):
                self._placement.require_even(size)

    def _take(self, weights: Weights) -> None:
        """Begin with `weights`: make the optimizer and the programs."""
        lesson = self._lesson
        self._state = {"weights": weights}
        if lesson.learns:
            self._optimizer = make_optimizer(lesson.hparams, lesson.build_optimizer, self._model)
            self._rates = Rates(self._optimizer)
            self._updates = Updates(self._optimizer, lesson.hparams, skips=lesson.skips, keeps=lesson.keeps_gradients)
            shapes = jax.eval_shape(self._updates.begin, weights)
            places = self._placement.of_state(shapes, lesson.rules)
            self._begun = jax.jit(self._updates.begin, out_shardings=places, donate_argnums=0)
            self._state = self._begun(weights)
        self._compile()

    def _compile(self) -> None:
        """Make the functions that are compiled when they are first called."""
        assert self._state is not None
        whole = self._placement.whole
        places = jax.tree.map(lambda leaf: leaf.sharding, self._state)
        programs = self._programs = Programs(self._lesson.trial, self._model, self._updates, self._placement)
        self._train = jax.jit(programs.train, donate_argnums=0, out_shardings=(places, whole))
        self._finish = jax.jit(programs.finish, donate_argnums=0, out_shardings=places)
        self._evaluate = jax.jit(programs.evaluate, out_shardings=whole)
        self._all_finite = jax.jit(_all_finite, out_shardings=whole)
        self._short = ShortBatches(programs, self._placement, self._lesson.notice)

    @property
    def _weights(self) -> Weights:
        if self._state is None:
            raise TrialError("The model has no weights yet: they are loaded from a checkpoint.")
        weights: Weights = self._state["weights"]
        return weights

    @property
    @override
    def model(self) -> Model:
        return self._model

    @property
    @override
    def optimizer(self) -> Any:
        return None if self._optimizer is None else self._optimizer.transformation

    @property
    @override
    def steps(self) -> int:
        return self._steps

    @property
    @override
    def frequency(self) -> int:
        return 1 if self._updates is None else self._updates.frequency

    @override
    def portion(self, count: int) -> int:
        return self._pace.portion(count)

    @override
    def learn(self, batches: Sequence[Any], samples: Sequence[int], epoch: int, first: int) -> Mapping[str, Measured]:
        values: dict[str, Series] = {}
        weights: dict[str, list[float]] = {}
        for _, run in groupby(zip(batches, samples, strict=True), key=lambda pair: sources.form_of(pair[0])):
            left = list(run)
            while left:
                length = self._length_for(left[0][0], len(left), epoch, first)
                part, left = left[:length], left[length:]
                measured = self._learn([batch for batch, _ in part], [size for _, size in part], epoch, first)
                for name, (series, weighed) in measured.items():
                    values[name] = values.get(name, Series(())) + series
                    weights.setdefault(name, []).extend(weighed)
                first += len(part)
        return {name: Measured(series, weights[name]) for name, series in values.items()}

    def _learn(
        self, batches: Sequence[Batch], samples: Sequence[int], epoch: int, first: int
    ) -> dict[str, tuple[Series, list[float]]]:
        """Learn from batches of one form that fit into one source."""
        size, count = sources.size_of(batches[0]), len(batches)
        batches, filled = self._filled(batches, training=True)
        length = self._length_for(batches[0], count, epoch, first)
        source = sources.source_of(batches, length, self._placement, filled)
        plan = self._plan(epoch, first, count, length)
        with explained("train_batch"), self._pace.giving(count, self._compilations) as left:
            self._state, values = self._train(self._state, source, np.int32(count), plan)
            left.append(values["loss"])
        own = {} if filled is not None else self._programs.own_weights["train_batch", size]
        self._count(count, known="loss" not in own)
        weights = {name: [own[name]] * count if name in own else [float(s) for s in samples] for name in values}
        if self._skipped is not None:
            out = self._skipped.find(values["loss"], count, first)
            weights = {
                name: [0.0 if bad else w for w, bad in zip(ws, out, strict=True)] for name, ws in weights.items()
            }
        return {name: (Series(((values[name], count),)), weights[name]) for name in values}

    def _plan(self, epoch: int, first: int, count: int, length: int) -> dict[str, Any]:
        return {
            "key": self._key(),
            "epoch": np.int32(epoch),
            "first": np.int32(first),
            **self._rates.plan(epoch, first, count, length, self._steps),
        }

    def _length_for(self, batch: Batch, wanted: int, epoch: int, first: int) -> int:
        """How many batches like `batch` make one source, where `wanted` are to go in."""
        if self._one_by_one is None:
            self._one_by_one = self._placement.on_cpu and self._convolves(batch, epoch, first)
        return 1 if self._one_by_one else sources.length_of(batch, wanted)

    def _convolves(self, batch: Batch, epoch: int, first: int) -> bool:
        """Whether a step has convolutions, which XLA carries out many times slower within a loop on a CPU."""
        source = sources.source_of([batch], 1, self._placement)
        with explained("train_batch"):
            traced = self._train.trace(self._state, source, np.int32(1), self._plan(epoch, first, 1, 1))
        return "conv_general_dilated" in primitives(traced.jaxpr)

    def _filled(self, batches: Sequence[Batch], *, training: bool) -> tuple[Sequence[Batch], int | None]:
        """`batches` brought to the size of whole ones, and how many samples they had; None where they stay as they are.

        What a whole one is, is said by the first.
        """
        size = sources.size_of(batches[0])
        full = self._full.setdefault(training, size)
        if size >= full:
            return batches, None
        filled = [self._short.filled(b, full, self._weights, self._key(), training=training) for b in batches]
        there = [batch for batch in filled if batch is not None]
        return (there, size) if there else (batches, None)

    def _count(self, batches: int, known: bool) -> None:
        """Count updates: from the numbers of batches, where each group surely makes one, else by asking the device."""
        assert self._updates is not None
        groups, self._in_group = divmod(self._in_group + batches, self._updates.frequency)
        if known and self._skipped is None:
            self._steps += groups
        else:
            assert self._state is not None
            self._steps = int(self._state["steps"])

    @override
    def finish_group(self) -> None:
        if self._in_group:
            self._state = self._finish(self._state, self._rates.of_last_batch(self._steps))
            self._in_group = 0
            self._steps = int(self._state["steps"])

    @override
    def evaluate(self, batch: Any, samples: int, index: int) -> Mapping[str, Measured]:
        sources.form_of(batch)
        if index == 0:
            self._full[False] = max(self._full.get(False, 0), sources.size_of(batch))
        (given,), filled = self._filled([batch], training=False)
        source = sources.source_of([given], 1, self._placement, filled)
        with explained("evaluate_batch"):
            values = self._evaluate(self._weights, source, np.int32(index), self._key())
        own = {} if filled is not None else self._programs.own_weights["evaluate_batch", sources.size_of(given)]
        return {
            name: Measured(Series(((value, 1),)), [own.get(name, float(samples))]) for name, value in values.items()
        }

    @override
    def inspected(self, batch: Any, samples: int, examined: Any, of_them: int) -> Inspection:
        return inspected(self._parts(batch, examined), samples, of_them)

    @override
    def lowered(
        self, batch: Any, samples: int, examined: Any, of_them: int, platforms: Sequence[str]
    ) -> Iterator[Lowered | Refused]:
        return lowered(self._parts(batch, examined), platforms)

    def _parts(self, batch: Batch, examined: Batch) -> Parts:
        assert self._state is not None
        assert self._updates is not None
        return Parts(
            programs=self._programs,
            updates=self._updates,
            model=self._model,
            beginning=self._beginning,
            state=self._state,
            batch=sources.alone(batch),
            examined=sources.alone(examined),
        )

    @override
    def parameters(self) -> Iterator[tuple[str, Any]]:
        yield from named({"params": self._weights["params"]}).items()

    @override
    def gradients(self) -> Iterator[tuple[str, Any]]:
        if self._state is not None and "gradients" in self._state:
            yield from named({"params": self._state["gradients"]}).items()

    @override
    def not_finite(self) -> str | None:
        finite = jax.device_get(self._all_finite(self._weights["params"]))
        return next((name for name, good in named({"params": finite}).items() if not good), None)

    @override
    def weights(self) -> dict[str, torch.Tensor]:
        return states.tensors(self._weights)

    @override
    def load_weights(self, weights: Mapping[str, Any]) -> None:
        placed = self._beginning.loaded(weights, self._state and self._state["weights"], self._key())
        if self._state is None:
            self._take(placed)
        elif self._updates is not None and self._steps == 0:  # an optimizer may keep a copy of what it began with
            self._state = self._begun(placed)
        else:
            self._state = {**self._state, "weights": placed}

    @override
    def state_dict(self) -> dict[str, Any]:
        assert self._state is not None
        assert self._optimizer is not None
        rest = {part: tree for part, tree in self._state.items() if part not in ("weights", "gradients")}
        counts = {"in_group": self._in_group, "last_batch": self._rates.state_dict()}
        return {"optimizer": self._optimizer.name, **counts, "tree": states.tensors(rest)}

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        assert self._state is not None
        assert self._optimizer is not None
        if state["optimizer"] != self._optimizer.name:
            raise TrialError(
                f"The checkpoint is of the optimizer '{state['optimizer']}', not of '{self._optimizer.name}'."
            )
        rest = {part: tree for part, tree in self._state.items() if part not in ("weights", "gradients")}
        try:
            tree = refilled(rest, states.arrays(state["tree"], named(rest)))
        except TrialError as error:
            raise TrialError(f"The checkpoint is of another optimizer: {error}.") from error
        places = jax.tree.map(lambda leaf: leaf.sharding, rest)
        self._state = {**self._state, **jax.device_put(tree, places)}
        self._in_group = state["in_group"]
        if "last_batch" in state:  # older checkpoints do not say
            self._rates.load_state_dict(state["last_batch"])
        self._steps = int(self._state["steps"])


def _all_finite(params: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.isfinite(leaf).all(), params)
