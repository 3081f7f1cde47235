"""Steps on the devices of jax, all of a trial's in this one process."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from numbers import Number
from typing import Any, NoReturn, final

import jax
import jax.numpy as jnp
import numpy as np
import torch
from typing_extensions import override

from mnist_trials.errors import PluginError, TrialError
from mnist_trials.plugin import Execution, ExecutionSettings, Learner, Lesson, Rows, Rules
from mnist_trials_plugins.backends._jax import arrays
from mnist_trials_plugins.backends._jax.arrays import HostBatch, RowsBatch, Series
from mnist_trials_plugins.backends._jax.compilations import Compilations
from mnist_trials_plugins.backends._jax.learner import JaxLearner
from mnist_trials_plugins.backends._jax.placement import Placement
from mnist_trials_plugins.backends._jax.precision import precision_of
from mnist_trials_plugins.backends._torch.moving import mapped
from mnist_trials_plugins.backends._torch.random_state import random_state, restore_random_state, seed_all

_CPU = torch.device("cpu")


@final
class JaxExecution(Execution):
    """A mesh of devices. Data is torch's, on the CPU, until a batch is given to a program.

    Raises:
        PluginError: the precision is none of this backend's, losses are to be scaled, or there are fewer devices than
            slots.
    """

    def __init__(self, settings: ExecutionSettings) -> None:
        self._precision = precision_of(settings.precision)
        if settings.loss_scale not in (None, "none", 1.0):
            raise PluginError(
                "The backend 'jax' does not scale losses: float16 alone needs that. Leave `loss_scale` out."
            )
        self._placement = Placement(_devices(settings), settings.mesh)
        self._compilations = Compilations()
        self._words = np.array([settings.seed >> 32 & 0xFFFFFFFF, settings.seed & 0xFFFFFFFF], np.uint32)
        self._made_key: jax.Array | None = None
        self._tables: dict[int, tuple[Rows, tuple[jax.Array, ...]]] = {}  # with the rows, so that ids stay taken
        # What is forked here are the processes of data loaders, which use no jax.
        warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
        torch.set_num_threads(settings.slots[0].threads)
        seed_all(settings.seed)

    @property
    @override
    def device(self) -> torch.device:
        return _CPU

    @property
    @override
    def compilations(self) -> int:
        """Programs compiled so far; it stays the same after the first epoch."""
        return self._compilations.count

    @property
    @override
    def compile_seconds(self) -> float:
        """How long that took."""
        return self._compilations.seconds

    @property
    @override
    def takes_rows(self) -> bool:
        return True

    @override
    def to_device(self, batch: Any) -> HostBatch | RowsBatch:
        """`batch` for a program: arrays stay on the host until it is called, rows are of tables on the devices."""
        if isinstance(batch, Rows):
            return RowsBatch(self._on_devices(batch), batch.chosen.numpy())
        return HostBatch(jax.tree.map(self._prepared, mapped(arrays.from_tensor, batch)))  # type: ignore[arg-type]

    def _prepared(self, leaf: Any) -> Any:
        if not isinstance(leaf, np.ndarray | Number):
            return leaf
        array = arrays.canonical(np.asarray(leaf))
        return array.astype(self._precision.kept) if self._precision.kept and arrays.is_float(array) else array

    def _on_devices(self, rows: Rows) -> tuple[jax.Array, ...]:
        known = self._tables.get(id(rows.tables))
        if known is None:
            host = [self._prepared(arrays.from_tensor(table)) for table in rows.tables]
            known = rows, tuple(jax.device_put(table, self._placement.whole) for table in host)
            self._tables[id(rows.tables)] = known
        return known[1]

    @override
    def learner(self, lesson: Lesson) -> Learner:
        return JaxLearner(lesson, self._placement, self._precision, self._key, self._compilations)

    def _key(self) -> jax.Array:
        if self._made_key is None:
            self._made_key = jax.random.wrap_key_data(jnp.asarray(self._words), impl="threefry2x32")
        return self._made_key

    @override
    def folded(self, values: Sequence[Any]) -> Series:
        return Series(((np.asarray([float(value) for value in values]), len(values)),))

    @override
    def fetched(self, vectors: Sequence[Any]) -> torch.Tensor:
        return arrays.fetched(vectors)

    @override
    def state_dict(self) -> dict[str, Any]:
        return {**random_state(_CPU), "device": {"jax": [int(word) for word in self._words]}, "scaler": None}

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        restore_random_state(state, _CPU)
        if "jax" in state["device"]:
            self._words = np.array(state["device"]["jax"], np.uint32)
            self._made_key = None

    @override
    def synchronize(self) -> None:
        self._placement.synchronize()

    @override
    def close(self) -> None:
        self._compilations.close()
        self._tables.clear()

    @override
    def autocast(self) -> AbstractContextManager[Any] | None:
        return None

    @override
    def prepare(self, model: torch.nn.Module, rules: Rules) -> torch.nn.Module:
        self._refuse("takes no torch module")

    @override
    def backward(self, loss: torch.Tensor) -> None:
        self._refuse("computes gradients of its own")

    @override
    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        self._refuse("takes no torch optimizer")

    @override
    def step(self, optimizer: torch.optim.Optimizer) -> None:
        self._refuse("takes no torch optimizer")

    def _refuse(self, what: str) -> NoReturn:
        raise TrialError(f"The backend 'jax' {what}: a trial's models are trained by its learner.")


def _devices(settings: ExecutionSettings) -> list[jax.Device]:
    """The devices of the slots. A worker sees these alone; a launcher that works in its own process may see more."""
    wanted = settings.mesh.data * settings.mesh.tensor
    there = jax.devices()
    indices = [slot.index for slot in settings.slots]
    if len(indices) == wanted and max(indices) < len(there):
        return [there[index] for index in indices]
    if len(there) < wanted:
        raise PluginError(
            f"jax has {len(there)} device{'s' * (len(there) != 1)} here ({there[0].platform}), and the trial has "
            f"{wanted} slots. How many there are is said by variables that jax reads when it is first used; in a "
            "process that has used it before (launcher: inline) they come too late. Use the launcher 'local'."
        )
    return list(there[:wanted])
