"""Which primitives jax has for a platform; no device of it is needed to ask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from mnist_trials.errors import PluginError

_PLATFORMS: Final = {"gpu": "cuda"}


def without_lowering(primitives: Sequence[str], platform: str) -> list[str]:
    """Those of `primitives` that jax cannot lower for `platform`.

    Raises:
        PluginError: this version of jax does not tell.
    """
    from jax._src.interpreters import mlir

    # There is no public list of them.
    general: Any = getattr(mlir, "_lowerings", None)
    particular: Any = getattr(mlir, "_platform_specific_lowerings", None)
    if general is None or particular is None:
        raise PluginError("This version of jax does not tell which primitives it can lower for a platform.")
    rules = (general, particular.get(_PLATFORMS.get(platform, platform), {}))
    known = {primitive.name for rule in rules for primitive in rule}
    return [name for name in primitives if name not in known]
