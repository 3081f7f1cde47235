"""Trees of a training as a checkpoint has them: tensors by name; and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import torch

from mnist_trials.errors import TrialError
from mnist_trials_plugins.backends._jax.arrays import is_float, like, to_tensor
from mnist_trials_plugins.backends._jax.names import named
from mnist_trials_plugins.backends._jax.networks import Weights


def tensors(tree: Any) -> dict[str, torch.Tensor]:
    """Copies of the leaves of `tree`, whole, by name. Waits for them."""
    leaves = named(tree)
    for leaf in leaves.values():
        leaf.copy_to_host_async()
    return {name: to_tensor(leaf) for name, leaf in leaves.items()}


def arrays(given: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """`given`, tensors by name, in the types of `wanted`.

    Raises:
        TrialError: they have other names or shapes; the text says which.
    """
    problems = [f"{name} is missing" for name in wanted if name not in given]
    problems += [f"{name} is not known" for name in given if name not in wanted]
    for name, leaf in wanted.items():
        shape = tuple(given[name].shape) if name in given else None
        if shape is not None and shape != _shape(leaf):
            problems.append(f"{name} has the shape {shape}, not {_shape(leaf)}")
    if problems:
        more = len(problems) - 6
        raise TrialError("; ".join(problems[:6]) + (f"; and {more} more" if more > 0 else ""))
    return {name: like(given[name], leaf) for name, leaf in wanted.items()}


def _shape(leaf: Any) -> tuple[int, ...]:
    """As `to_tensor` would have it."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return tuple(jax.eval_shape(jax.random.key_data, leaf).shape)
    return tuple(leaf.shape)


def require_floats(weights: Weights) -> None:
    """See that every parameter can be learnt.

    Raises:
        TrialError: one is no floating-point array.
    """
    for name, leaf in named(weights["params"]).items():
        if not is_float(leaf):
            raise TrialError(
                f"The parameter '{name}' that the model's init gave is of type {leaf.dtype}; parameters are "
                "floating-point arrays. Keep what is not to be learnt out of them."
            )
