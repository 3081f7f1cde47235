"""Where arrays lie on the mesh of devices: weights by the trial's sharding rules, batches split over the data axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from mnist_trials.config import Mesh
from mnist_trials.errors import TrialError
from mnist_trials.plugin import Rules
from mnist_trials_plugins.backends._jax.names import named, refilled
from mnist_trials_plugins.backends._rules import TENSOR, Dims, dims_by_parameter, refuse, shape_problems


@final
class Placement:
    """The mesh of a trial."""

    def __init__(self, devices: Sequence[jax.Device], mesh: Mesh) -> None:
        grid = np.array(devices, dtype=object).reshape(mesh.data, mesh.tensor)
        self._mesh = jax.sharding.Mesh(grid, ("data", TENSOR))
        self._data = mesh.data
        self._tensor = mesh.tensor
        self.whole = NamedSharding(self._mesh, PartitionSpec())

    @property
    def on_cpu(self) -> bool:
        """Whether the devices are those of the CPU."""
        return all(device.platform == "cpu" for device in self._mesh.devices.flat)

    def of_state(self, state: Any, rules: Rules) -> Any:
        """Where the leaves of `state` go: a tree of arrays or their shapes with "weights", and what follows them.

        Raises:
            TrialError: a rule cannot be followed, or there is none though the mesh splits the model.
        """
        leaves = named(state)
        prefix = "weights.params."
        params = {name.removeprefix(prefix): leaf.shape for name, leaf in leaves.items() if name.startswith(prefix)}
        splits = self._splits({f"params.{name}": shape for name, shape in params.items()}, rules)

        def place(name: str, leaf: Any) -> NamedSharding:
            owner = _owner(name, leaf, params) if not name.startswith("weights.") or name.startswith(prefix) else None
            split = None if owner is None else splits.get(f"params.{owner}")
            return self.whole if split is None else NamedSharding(self._mesh, PartitionSpec(*split))

        return refilled(state, {name: place(name, leaf) for name, leaf in leaves.items()})

    def split(self, array: Any, axis: int) -> Any:
        """`array`, on the host, brought to the devices, split over the data axis where it can be."""
        return jax.device_put(array, self._over_data(array.shape, axis))

    def constrained(self, batch: Any) -> Any:
        """`batch`, traced, with its samples split over the data axis where they can be."""
        if self._data == 1:
            return batch
        return jax.tree.map(lambda a: jax.lax.with_sharding_constraint(a, self._over_data(a.shape, 0)), batch)

    def _over_data(self, shape: tuple[int, ...], axis: int) -> NamedSharding:
        if len(shape) <= axis or shape[axis] % self._data:
            return self.whole
        return NamedSharding(self._mesh, PartitionSpec(*(None,) * axis, "data"))

    def synchronize(self) -> None:
        """Wait until the devices have done all they were given."""
        for device in self._mesh.devices.flat:
            device.synchronize_all_activity()

    def require_even(self, batch_size: int) -> None:
        """See that full batches can be split.

        Raises:
            TrialError: they cannot.
        """
        share, rest = divmod(batch_size, self._data)
        if rest:
            raise TrialError(
                f"A global batch of {batch_size} samples cannot be split evenly over {self._data} slots. "
                f"Use {share * self._data or self._data} or {(share + 1) * self._data}."
            )

    def _splits(self, shapes: Mapping[str, tuple[int, ...]], rules: Rules) -> dict[str, Dims]:
        if self._tensor == 1:
            return {}
        problems: list[str] = []
        splits = dims_by_parameter(rules, list(shapes), problems)
        for name, wanted in splits.items():
            problems += shape_problems(name, shapes[name], wanted, self._tensor)
        refuse(problems, self._tensor)
        return splits


def _owner(name: str, leaf: Any, params: Mapping[str, tuple[int, ...]]) -> str | None:
    """The parameter that the leaf `name` of a state belongs to, as a moment of an optimizer does: it ends as that."""
    parts = name.split(".")
    suffixes = (".".join(parts[start:]) for start in range(len(parts)))
    return next((suffix for suffix in suffixes if params.get(suffix) == leaf.shape), None)
