"""In which types parameters are kept and computed with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, final

import jax
import jax.numpy as jnp

from mnist_trials.errors import PluginError
from mnist_trials_plugins.backends._jax.arrays import is_float

PRECISIONS: Final = ("fp32", "bf16-mixed", "bf16-true")


@final
@dataclass(frozen=True, slots=True)
class Precision:
    """A precision of this backend.

    Attributes:
        kept: the type of parameters and of floating-point inputs; None: as they come.
        computed: the type to which both are cast for the model; None: the one they have.
    """

    kept: Any
    computed: Any

    def stored(self, tree: Any) -> Any:
        """`tree` of weights as it is kept."""
        return jax.tree.map(self._stored, tree)

    def _stored(self, leaf: Any) -> Any:
        array = jnp.asarray(leaf)
        dtype = self.kept if self.kept is not None and is_float(array) else array.dtype
        return jax.lax.convert_element_type(array, dtype)  # also where a plain number has a type of no weight


def precision_of(name: str) -> Precision:
    """The precision `name`.

    Raises:
        PluginError: this backend has none of that name; the text says which it has.
    """
    if name == "fp16-mixed":
        raise PluginError(
            "The backend 'jax' has no fp16-mixed: it does not scale losses. Use bf16-mixed, which needs no scaling."
        )
    if name not in PRECISIONS:
        raise PluginError(f"No precision is named '{name}'. The backend 'jax' has: {', '.join(PRECISIONS)}.")
    return Precision(
        kept=jnp.bfloat16 if name == "bf16-true" else None, computed=jnp.bfloat16 if name == "bf16-mixed" else None
    )
