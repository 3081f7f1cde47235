"""What `build_model` may return, and how each is initialised and applied."""

from __future__ import annotations

import inspect
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final, final

import jax
import torch
from typing_extensions import override

from mnist_trials.errors import TrialError
from mnist_trials.plugin import RAISED_IN

Weights = dict[str, Any]
"""What a model holds: its parameters as "params", and beside them other collections, such as linen's "batch_stats"."""

_IN_TRAINING: Final = {"train": True, "training": True, "deterministic": False, "use_running_average": False}
"""Arguments that say whether a model is trained, and what they are while it is. A model that has one is given it."""


class Network(ABC):
    """A model without its weights."""

    def begin(self, key: Any) -> Weights | None:
        """New weights, where they do not depend on what the model is called with; else None."""
        return None

    @abstractmethod
    def init(self, key: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Weights:
        """New weights for a model that is called with `args` and `kwargs`."""

    @abstractmethod
    def apply(
        self, weights: Weights, args: tuple[Any, ...], kwargs: Mapping[str, Any], training: bool, key: Any
    ) -> tuple[Any, Weights]:
        """The output, and the weights with what the call changed beside the parameters."""


def network_of(built: object) -> Network:
    """The network that `build_model` returned.

    Raises:
        TrialError: it returned something else.
    """
    linen = sys.modules.get("flax.linen")
    if linen is not None and isinstance(built, linen.Module):
        return Linen(built)
    if isinstance(built, tuple) and len(built) == 2 and all(map(callable, built)):
        return Functions(*built)
    init, apply = getattr(built, "init", None), getattr(built, "apply", None)
    if callable(init) and callable(apply) and not isinstance(built, type):
        return Functions(init, apply)
    what, more = type(built).__name__, ""
    if isinstance(built, torch.nn.Module) or (
        isinstance(built, Mapping) and any(isinstance(part, torch.nn.Module) for part in built.values())
    ):
        what, more = f"the torch module {what}", " Torch modules train on the backends cpu, cuda and xla."
    elif (nnx := sys.modules.get("flax.nnx")) is not None and isinstance(built, nnx.Module):
        what, more = f"the nnx module {what}", " Of Flax, this backend takes linen modules."
    raise TrialError(
        "On the backend 'jax', build_model must return a Flax linen module, a pair (init, apply) of functions, or an "
        f"object that has these two; it returned {what}.{more}"
    )


@final
class Functions(Network):
    """A pair of pure functions: `init(key)` or `init(key, *inputs)`, and `apply(params, *inputs)`."""

    def __init__(self, init: Callable[..., Any], apply: Callable[..., Any]) -> None:
        self._init = init
        self._apply = apply
        self._takes_inputs = _required(init) > 1
        self._told = _told(apply)

    @override
    def begin(self, key: Any) -> Weights | None:
        return None if self._takes_inputs else {"params": self._init(key)}

    @override
    def init(self, key: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Weights:
        return {"params": self._init(key, *args)}

    @override
    def apply(
        self, weights: Weights, args: tuple[Any, ...], kwargs: Mapping[str, Any], training: bool, key: Any
    ) -> tuple[Any, Weights]:
        return self._apply(weights["params"], *args, **{**_flags(self._told, training), **kwargs}), weights


@final
class Linen(Network):
    """A Flax linen module. What it keeps beside its parameters (batch_stats and the like) changes in training only."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self._told = _told(type(module).__call__)

    @override
    def init(self, key: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Weights:
        flags = {**_flags(self._told, training=True), **kwargs}
        flags.pop("rngs", None)
        first, second = jax.random.split(key)
        with _naming_layers():
            variables = self._module.init({"params": first, "dropout": second}, *args, **flags)
        return {"params": {}, **{name: tree for name, tree in variables.items() if name != "intermediates"}}

    @override
    def apply(
        self, weights: Weights, args: tuple[Any, ...], kwargs: Mapping[str, Any], training: bool, key: Any
    ) -> tuple[Any, Weights]:
        options = {**_flags(self._told, training), **kwargs}
        if training:
            options.setdefault("rngs", {"dropout": key})
        changing = [name for name in weights if name != "params"] if training else []
        with _naming_layers():
            if not changing:
                return self._module.apply(weights, *args, **options), weights
            output, changed = self._module.apply(weights, *args, mutable=changing, **options)
        return output, {**weights, **changed}


def _naming_layers() -> AbstractContextManager[Any]:
    """While an exception that comes out of a linen module is given a note that names it."""
    return sys.modules["flax.linen"].intercept_methods(_named)  # type: ignore[no-any-return]


def _named(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
    try:
        return call(*args, **kwargs)
    except Exception as error:
        if not any(note.startswith(RAISED_IN) for note in getattr(error, "__notes__", ())):
            shapes = [leaf.shape for leaf in jax.tree.leaves((args, kwargs)) if hasattr(leaf, "shape")]
            given = " and ".join(" x ".join(map(str, shape)) or "a scalar" for shape in shapes) or "no array"
            name, kind = ".".join(context.module.path), type(context.module).__name__
            layer = f"layer '{name}' ({kind})" if name else f"the model itself ({kind})"
            error.add_note(f"{RAISED_IN} {layer}, which was given {given}.")
        raise


def _required(function: Callable[..., Any]) -> int:
    """How many positional arguments must be given to `function`."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    return sum(p.kind in kinds and p.default is inspect.Parameter.empty for p in parameters)


def _told(function: Callable[..., Any]) -> tuple[str, ...]:
    """The arguments of `function` that say whether it is trained."""
    return tuple(name for name in inspect.signature(function).parameters if name in _IN_TRAINING)


def _flags(told: tuple[str, ...], training: bool) -> dict[str, Any]:
    return {name: _IN_TRAINING[name] == training for name in told}
