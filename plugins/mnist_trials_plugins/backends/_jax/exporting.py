"""Parts of a step as jax exports them, for any platforms that it can lower for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import jax
import jax.export

from mnist_trials.plugin import PARTS, ArrayKind, Lowered, Refused
from mnist_trials_plugins.backends._jax.parts import Part, Parts

_LOADS: Final = "jax.export.deserialize(bytearray(open(PATH, 'rb').read())).call({name: array, ...})"


def lowered(parts: Parts, platforms: Sequence[str]) -> Iterator[Lowered | Refused]:
    """Every part of a step, lowered for `platforms`; or why it cannot be."""
    for name, make in zip(PARTS, parts.all(), strict=True):
        try:
            yield _lowered(make(), platforms)
        except Exception as error:  # whatever jax or the trial raises, the other parts may work
            yield Refused(name, f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}")


def _lowered(part: Part, platforms: Sequence[str]) -> Lowered:
    exported = jax.export.export(jax.jit(part.function), platforms=tuple(platforms))(dict(part.inputs))
    inputs = jax.tree.unflatten(exported.in_tree, exported.in_avals)[0][0]
    outputs = jax.tree.unflatten(exported.out_tree, exported.out_avals)
    return Lowered(
        name=part.name,
        text=exported.mlir_module(),
        inputs=_kinds(inputs),
        outputs=_kinds(outputs),
        platforms=exported.platforms,
        artefact=bytes(exported.serialize()),
        suffix=".jax_export",
        loads=_LOADS,
    )


def _kinds(arrays: Mapping[str, Any]) -> dict[str, ArrayKind]:
    return {name: ArrayKind(tuple(array.shape), str(array.dtype)) for name, array in arrays.items()}
