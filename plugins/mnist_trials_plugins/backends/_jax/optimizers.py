"""The optimizer of a trial: optax's transformations with the names, options and formulas of torch's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias, final

import jax
import jax.numpy as jnp
import optax

from mnist_trials.errors import TrialError
from mnist_trials.plugin.rates import RateSchedule, rate_schedule
from mnist_trials.plugin.updates import optimizer_options, refuse_other_options

Transformation: TypeAlias = Any
"""One of optax, which says nothing of types: a pair of `init` and `update`."""


@final
@dataclass(frozen=True, slots=True)
class Optimizer:
    """What makes updates of gradients.

    Where the hyperparameters describe it, `transformation` gives the direction alone: the update is that times the
    learning rate, which is an input of the step, so that a schedule changes no program. A trial's own transformation
    has its rate within, and `rate` is None.
    """

    name: str
    transformation: Transformation
    rate: float | None
    schedule: RateSchedule | None = None


def make_optimizer(hparams: Mapping[str, Any], build: Callable[[Any], Any] | None, model: Any) -> Optimizer:
    """The optimizer that `build` returns, or else that the hyperparameters describe.

    Raises:
        TrialError: it is none of optax's, its name is unknown, or it takes no such option or value.
    """
    if build is None:
        return _from_hparams(hparams)
    built = build(model)
    if not (callable(getattr(built, "init", None)) and callable(getattr(built, "update", None))):
        raise TrialError(
            "On the backend 'jax', build_optimizer must return an optax optimizer (a GradientTransformation); it "
            f"returned {type(built).__name__}."
        )
    if hparams.get("lr_schedule") is not None:
        raise TrialError(
            "The hyperparameter lr_schedule sets the learning rate of the optimizer that the hyperparameters describe, "
            "but this trial builds its own. Give optax a schedule in build_optimizer, or leave one of the two out."
        )
    return Optimizer("build_optimizer", built, None)


def _from_hparams(hparams: Mapping[str, Any]) -> Optimizer:
    options = optimizer_options(hparams, _MADE_BY, build="an optax optimizer")
    name, rate = str(hparams["optimizer"]).lower(), hparams["learning_rate"]
    if name not in _MADE_BY:
        raise TrialError(
            f"The backend 'jax' has no optimizer named {hparams['optimizer']!r}. It has: {', '.join(_MADE_BY)}. "
            "Others are optax's to give: return one from build_optimizer."
        )
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not rate >= 0:
        raise TrialError(f"The hyperparameter 'learning_rate' must be a number of at least 0, not {rate!r}.")
    make, defaults = _MADE_BY[name]
    refuse_other_options(f"'{name}' of the backend 'jax'", options, defaults)
    for option, value in options.items():
        if not _fits(value, defaults[option]):
            raise TrialError(f"The optimizer '{name}' cannot take {value!r} as {option}.")
    return Optimizer(name, make(**{**defaults, **options}), float(rate), rate_schedule(hparams))


def _fits(value: Any, default: Any) -> bool:
    if isinstance(default, bool):
        return isinstance(value, bool)
    if isinstance(default, tuple):
        return (
            isinstance(value, list | tuple) and len(value) == 2 and all(_fits(beta, 0.0) and beta < 1 for beta in value)
        )
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def _sgd(momentum: float, dampening: float, nesterov: bool, weight_decay: float) -> Transformation:
    if nesterov and (momentum == 0 or dampening):
        raise TrialError("The optimizer 'sgd' takes `nesterov` only with a momentum and no dampening.")
    steps = [_decay(weight_decay)]
    if momentum:
        steps.append(_dampened(momentum, dampening) if dampening else optax.trace(momentum, nesterov))
    return optax.chain(*steps)


def _adam(betas: tuple[float, float], eps: float, weight_decay: float) -> Transformation:
    return optax.chain(_decay(weight_decay), optax.scale_by_adam(*betas, eps=eps))


def _adamw(betas: tuple[float, float], eps: float, weight_decay: float) -> Transformation:
    return optax.chain(optax.scale_by_adam(*betas, eps=eps), _decay(weight_decay))


def _adamax(betas: tuple[float, float], eps: float, weight_decay: float) -> Transformation:
    return optax.chain(_decay(weight_decay), optax.scale_by_adamax(*betas, eps=eps))


def _adagrad(eps: float, weight_decay: float) -> Transformation:
    return optax.chain(_decay(weight_decay), _by_sum_of_squares(eps))


def _adadelta(rho: float, eps: float, weight_decay: float) -> Transformation:
    return optax.chain(_decay(weight_decay), optax.scale_by_adadelta(rho, eps))


def _rmsprop(eps: float, centered: bool, momentum: float, weight_decay: float) -> Transformation:
    scale = optax.scale_by_stddev if centered else optax.scale_by_rms
    steps = [_decay(weight_decay), scale(decay=0.99, eps=eps, eps_in_sqrt=False)]
    return optax.chain(*steps, *([optax.trace(momentum)] if momentum else []))


def _decay(rate: float) -> Transformation:
    return optax.add_decayed_weights(rate) if rate else optax.identity()


class _Dampened(NamedTuple):
    """The momentum of a dampened SGD."""

    first: Any  # whether nothing was added yet
    trace: Any


def _dampened(momentum: float, dampening: float) -> Transformation:
    """Momentum as `optax.trace` has it, but that every gradient after the first is scaled down."""

    def init(params: Any) -> _Dampened:
        return _Dampened(jnp.ones((), bool), jax.tree.map(jnp.zeros_like, params))

    def update(gradients: Any, state: _Dampened, params: Any = None) -> tuple[Any, _Dampened]:
        scale = jnp.where(state.first, 1.0, 1.0 - dampening)
        trace = jax.tree.map(lambda g, t: momentum * t + (scale * g).astype(t.dtype), gradients, state.trace)
        return trace, _Dampened(jnp.zeros((), bool), trace)

    return optax.GradientTransformation(init, update)


class _Squares(NamedTuple):
    """The sums of Adagrad."""

    sums: Any


def _by_sum_of_squares(eps: float) -> Transformation:
    """Adagrad with its epsilon outside of the root, as torch has it (optax's is inside)."""

    def init(params: Any) -> _Squares:
        return _Squares(jax.tree.map(jnp.zeros_like, params))

    def update(gradients: Any, state: _Squares, params: Any = None) -> tuple[Any, _Squares]:
        sums = jax.tree.map(lambda s, g: s + g * g, state.sums, gradients)
        return jax.tree.map(lambda g, s: g / (jnp.sqrt(s) + eps), gradients, sums), _Squares(sums)

    return optax.GradientTransformation(init, update)


_MADE_BY: Final[Mapping[str, tuple[Callable[..., Transformation], Mapping[str, Any]]]] = {
    "adadelta": (_adadelta, {"rho": 0.9, "eps": 1e-6, "weight_decay": 0.0}),
    "adagrad": (_adagrad, {"eps": 1e-10, "weight_decay": 0.0}),
    "adam": (_adam, {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}),
    "adamax": (_adamax, {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}),
    "adamw": (_adamw, {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01}),
    "rmsprop": (_rmsprop, {"eps": 1e-8, "centered": False, "momentum": 0.0, "weight_decay": 0.0}),
    "sgd": (_sgd, {"momentum": 0.0, "dampening": 0.0, "nesterov": False, "weight_decay": 0.0}),
}
"""Optimizers that the hyperparameter `optimizer` may name, and torch's defaults of the options that each takes."""
