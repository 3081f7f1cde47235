"""Learning rate schedules by name: the hyperparameter `lr_schedule`, as functions that know no framework.

    lr_schedule: {name: step, step_size: 2, gamma: 0.7}
    lr_schedule: {name: sequence, per: batch, schedules: [{name: linear, steps: 500}, {name: cosine, T_max: 9500}]}

docs/trial.md lists the names and their options. Those of torch's schedulers mean what they mean there; "base" is the
hyperparameter `learning_rate`, and "step" counts what `per` says, from 0.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import cos, pi
from typing import Any, Final, Literal, final

from mnist_trials.errors import TrialError
from mnist_trials.plugin.rate_options import COUNT, COUNTS, FLAG, NUMBER, NUMBERS, Option, near, read_options

Per = Literal["epoch", "batch", "optimizer_step"]
PER: Final[tuple[Per, ...]] = ("epoch", "batch", "optimizer_step")

Curve = Callable[[float, int], float]
"""(base, step) -> the learning rate."""


@final
@dataclass(frozen=True, slots=True)
class RateSchedule:
    """The learning rate as a function of how far training is.

    `curve(base, step)` is the rate of a group of parameters whose rate was `base`, after `step` times `per`. A rate
    depends on these two alone, so that a resumed training need only know the step.
    """

    curve: Curve
    per: Per


def rate_schedule(hparams: Mapping[str, Any]) -> RateSchedule | None:
    """The schedule that the hyperparameter `lr_schedule` describes; None without one, or where the rate is constant.

    Raises:
        TrialError: a name is unknown, or an option is missing, does not exist or has a value that makes no sense; the
            text says what is allowed.
    """
    described = hparams.get("lr_schedule")
    if described is None:
        return None
    if isinstance(described, str):
        described = {"name": described}
    if not isinstance(described, Mapping) or "name" not in described:
        raise TrialError(f"The hyperparameter lr_schedule is a name or a map with `name`, not {described!r}.")
    options = dict(described)
    per = options.pop("per", PER[0])
    if per not in PER:
        raise TrialError(f"'per' of lr_schedule is one of {', '.join(PER)}, not {per!r}.")
    curve = _curve(options, also=("per",))
    return None if curve is _constant else RateSchedule(curve, per)


def _curve(described: Mapping[str, Any], also: tuple[str, ...] = ()) -> Curve:
    """The curve of one schedule; `also`: what may stand beside its own options, for errors."""
    options = dict(described)
    name = options.pop("name")
    key = str(name).lower()
    if key == "sequence":
        return _sequence(read_options(name, options, {"schedules": _STAGES}, also)["schedules"])
    if key not in _SCHEDULES:
        names = sorted((*_SCHEDULES, "sequence"))
        raise TrialError(f"No learning rate schedule is named {name!r}.{near(key, names)} Known: {', '.join(names)}.")
    make, known = _SCHEDULES[key]
    return make(**read_options(name, options, known, also))


def _sequence(stages: Sequence[Mapping[str, Any]]) -> Curve:
    """One schedule after another; each begins anew, at its own step 0."""
    curves, lengths = [], []
    for number, stage in enumerate(stages):
        options = dict(stage)
        steps = options.pop("steps", None)
        last = number == len(stages) - 1
        if not (last if steps is None else COUNT.fits(steps)):
            given = "is missing" if steps is None else f"is {COUNT.words}, not {steps!r}"
            raise TrialError(
                f"'steps' of schedule {number + 1} of the lr_schedule 'sequence' {given}: after so many of `per` the "
                "next one begins. The last one needs none."
            )
        curves.append(_curve(options, also=("steps",)))
        lengths.append(steps)
    starts = [0, *accumulate(lengths[:-1])]

    def curve(base: float, step: int) -> float:
        stage = bisect_right(starts, step) - 1
        return curves[stage](base, step - starts[stage])

    return curve


def _constant(base: float, step: int) -> float:
    return base


def _keep() -> Curve:
    return _constant


def _step(step_size: int, gamma: float) -> Curve:
    return lambda base, step: base * gamma ** (step // step_size)


def _multistep(milestones: Sequence[int], gamma: float) -> Curve:
    points = sorted(milestones)
    return lambda base, step: base * gamma ** bisect_right(points, step)


def _piecewise_constant(milestones: Sequence[int], factors: Sequence[float]) -> Curve:
    if len(factors) != len(milestones) + 1 or list(milestones) != sorted(set(milestones)):
        raise TrialError(
            "The learning rate schedule 'piecewise_constant' takes `milestones` in rising order and one factor more "
            f"than there are of them; not milestones {list(milestones)} and factors {list(factors)}."
        )
    return lambda base, step: base * factors[bisect_right(milestones, step)]


def _exponential(gamma: float) -> Curve:
    return lambda base, step: base * gamma**step


def _linear(start_factor: float, end_factor: float, total_iters: int) -> Curve:
    return lambda base, step: base * (start_factor + (end_factor - start_factor) * min(step / total_iters, 1.0))


def _polynomial(total_iters: int, power: float, end_factor: float) -> Curve:
    def curve(base: float, step: int) -> float:
        left = 1.0 - min(step / total_iters, 1.0)
        return float(base * (end_factor + (1.0 - end_factor) * left**power))

    return curve


def _inverse_time(decay_rate: float, decay_steps: int, power: float, staircase: bool) -> Curve:
    def curve(base: float, step: int) -> float:
        decays = step // decay_steps if staircase else step / decay_steps
        return float(base / (1.0 + decay_rate * decays**power))

    return curve


def _half_wave(part: float) -> float:
    """From 1 (at 0) to 0 (at 1), and up again."""
    return (1.0 + cos(pi * part)) / 2.0


def _cosine(T_max: int, eta_min: float) -> Curve:  # noqa: N803 - torch's name
    return lambda base, step: eta_min + (base - eta_min) * _half_wave(step / T_max)


def _cosine_decay(total_iters: int, end_factor: float) -> Curve:
    def curve(base: float, step: int) -> float:
        return base * (end_factor + (1.0 - end_factor) * _half_wave(min(step / total_iters, 1.0)))

    return curve


def _cosine_restarts(T_0: int, T_mult: int, eta_min: float) -> Curve:  # noqa: N803 - torch's names
    def curve(base: float, step: int) -> float:
        begun, length = (step // T_0 * T_0, T_0) if T_mult == 1 else (0, T_0)
        while step >= begun + length:
            begun, length = begun + length, length * T_mult
        return eta_min + (base - eta_min) * _half_wave((step - begun) / length)

    return curve


_STAGES: Final = Option(
    lambda value: (
        isinstance(value, list | tuple)
        and len(value) > 0
        and all(isinstance(stage, Mapping) and "name" in stage for stage in value)
    ),
    "a list of maps with `name`",
)

_SCHEDULES: Final[Mapping[str, tuple[Callable[..., Curve], Mapping[str, Option]]]] = {
    "constant": (_keep, {}),
    "step": (_step, {"step_size": COUNT, "gamma": NUMBER.by_default(0.1)}),
    "multistep": (_multistep, {"milestones": COUNTS, "gamma": NUMBER.by_default(0.1)}),
    "piecewise_constant": (_piecewise_constant, {"milestones": COUNTS, "factors": NUMBERS}),
    "exponential": (_exponential, {"gamma": NUMBER}),
    "linear": (
        _linear,
        {
            "start_factor": NUMBER.by_default(1 / 3),
            "end_factor": NUMBER.by_default(1.0),
            "total_iters": COUNT.by_default(5),
        },
    ),
    "polynomial": (
        _polynomial,
        {
            "total_iters": COUNT.by_default(5),
            "power": NUMBER.by_default(1.0),
            "end_factor": NUMBER.by_default(0.0),
        },
    ),
    "inverse_time": (
        _inverse_time,
        {
            "decay_rate": NUMBER,
            "decay_steps": COUNT.by_default(1),
            "power": NUMBER.by_default(1.0),
            "staircase": FLAG.by_default(False),
        },
    ),
    "cosine": (_cosine, {"T_max": COUNT, "eta_min": NUMBER.by_default(0.0)}),
    "cosine_decay": (_cosine_decay, {"total_iters": COUNT, "end_factor": NUMBER.by_default(0.0)}),
    "cosine_restarts": (
        _cosine_restarts,
        {"T_0": COUNT, "T_mult": COUNT.by_default(1), "eta_min": NUMBER.by_default(0.0)},
    ),
}

SCHEDULES: Final = (*_SCHEDULES, "sequence")
"""The names that `lr_schedule` knows."""
