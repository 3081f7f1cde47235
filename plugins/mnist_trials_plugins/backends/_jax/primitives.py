"""The primitives that a traced function consists of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import jax

_TRANSPARENT: Final = frozenset({"pjit", "jit", "custom_jvp_call", "custom_vjp_call", "closed_call", "remat"})
"""Primitives that only stand for those inside them."""


def primitives(jaxpr: Any) -> Iterator[str]:
    """The names of all primitives, those inside others too: of a branch or a loop's body once."""
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        if equation.primitive.name not in _TRANSPARENT:
            yield equation.primitive.name
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_jaxpr):
            if _is_jaxpr(value):
                yield from primitives(value)


def _is_jaxpr(value: object) -> bool:
    return hasattr(value, "eqns")
