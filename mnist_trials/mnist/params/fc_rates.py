"""Learning rates of FC-MNIST: a number, a schedule, or a list of schedules one after the other.

A schedule here is a factor of one base, the hyperparameter `learning_rate`: the largest rate that any of the schedules
of the file begins or ends with. Steps are batches, there and here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from mnist_trials.config.nodes import Node, plain
from mnist_trials.errors import TrialError
from mnist_trials.mnist.params.draft import Draft
from mnist_trials.plugin.rate_options import COUNT, COUNTS, FLAG, NUMBER, NUMBERS, Option, near, read_options

_Values = Mapping[str, Any]
_FIRST: Final = {"initial_learning_rate": NUMBER}
_STEPS: Final = {"decay_steps": COUNT}
_END: Final = {"end_learning_rate": NUMBER.by_default(0.0)}
_STAIRCASE: Final = {"staircase": FLAG.by_default(False)}


def learning_rate(path: str, node: Node, draft: Draft) -> None:
    """The rule of `optimizer.learning_rate`."""
    given = plain(node)
    if NUMBER.fits(given):
        draft.set("hyperparameters.learning_rate", given)
        return
    try:
        base, schedule = _schedule(given if isinstance(given, list) else [given])
    except TrialError as error:
        draft.mistake(path, f"'{path}': {error}")
        return
    draft.set("hyperparameters.learning_rate", base)
    if schedule != {"name": "constant"}:
        draft.set("hyperparameters.lr_schedule", {**schedule, "per": "batch"})


def _schedule(given: list[Any]) -> tuple[float, dict[str, Any]]:
    """The base and the `lr_schedule` without `per`."""
    if not given or not all(isinstance(stage, Mapping) and "scheduler" in stage for stage in given):
        raise TrialError("this is a number, a map with `scheduler`, or a list of such maps.")
    stages = [_read(stage, alone=len(given) == 1) for stage in given]
    base = max(_peak(values) for _, values, _ in stages)
    if not base:
        raise TrialError("the rate is 0 throughout, at which nothing is learnt.")
    made = [{**_KINDS[kind][1](values, base), **length} for kind, values, length in stages]
    if len(made) == 1:
        return base, made[0]
    if missing := [number for number, stage in enumerate(made[:-1], 1) if "steps" not in stage]:
        raise TrialError(f"schedule {missing[0]} of the list has no `steps`, after which the next one begins.")
    made[-1].pop("steps", None)
    return base, {"name": "sequence", "schedules": made}


def _read(stage: _Values, *, alone: bool) -> tuple[str, _Values, dict[str, int]]:
    """(key of its kind, its options, how long it lasts) of one schedule."""
    options = dict(stage)
    name = str(options.pop("scheduler"))
    kind = name.lower()
    if kind == "lambda":
        raise TrialError("a Lambda schedule is code; give it from a trial's own build_lr_scheduler.")
    if kind not in _KINDS:
        raise TrialError(f"there is no scheduler {name!r}.{near(kind, _KINDS)} Known: {', '.join(_KINDS)}.")
    known = _KINDS[kind][0]
    steps = options.pop("steps", None)
    if steps is not None and not COUNT.fits(steps):
        raise TrialError(f"`steps` of the scheduler {name!r} is {COUNT.words}, not {steps!r}.")
    if steps is not None and "decay_steps" in known:
        options.setdefault("decay_steps", steps)
    return kind, read_options(name, options, known, ("steps",)), {} if alone or steps is None else {"steps": steps}


def _peak(values: _Values) -> float:
    first = values.get("initial_learning_rate", values.get("learning_rate"))
    return float(max(values["values"]) if first is None else max(first, values.get("end_learning_rate", 0.0)))


def _constant(values: _Values, base: float) -> dict[str, Any]:
    factor = values["learning_rate"] / base
    if factor == 1:
        return {"name": "constant"}
    return {"name": "piecewise_constant", "milestones": [], "factors": [factor]}


def _piecewise(values: _Values, base: float) -> dict[str, Any]:
    factors = [value / base for value in values["values"]]
    return {"name": "piecewise_constant", "milestones": values["boundaries"], "factors": factors}


def _exponential(values: _Values, base: float) -> dict[str, Any]:
    if values["staircase"]:
        return _from_base(values, base, name="step", step_size=values["decay_steps"], gamma=values["decay_rate"])
    return _from_base(values, base, name="exponential", gamma=values["decay_rate"] ** (1 / values["decay_steps"]))


def _linear(values: _Values, base: float) -> dict[str, Any]:
    start, end = values["initial_learning_rate"] / base, values["end_learning_rate"] / base
    return {"name": "linear", "start_factor": start, "end_factor": end, "total_iters": values["decay_steps"]}


def _polynomial(values: _Values, base: float) -> dict[str, Any]:
    if values["power"] == 1:
        return _linear(values, base)
    end, steps = values["end_learning_rate"] / base, values["decay_steps"]
    return _from_base(values, base, name="polynomial", total_iters=steps, power=values["power"], end_factor=end)


def _inverse_time(values: _Values, base: float) -> dict[str, Any]:
    options = {name: values[name] for name in ("decay_rate", "decay_steps", "staircase")}
    return _from_base(values, base, name="inverse_time", power=values["step_exponent"], **options)


def _cosine_decay(values: _Values, base: float) -> dict[str, Any]:
    end = values["end_learning_rate"] / base
    return _from_base(values, base, name="cosine_decay", total_iters=values["decay_steps"], end_factor=end)


def _as_named(name: str) -> Callable[[_Values, float], dict[str, Any]]:
    """A schedule with the same options there and here."""

    def convert(values: _Values, base: float) -> dict[str, Any]:
        options = {option: value for option, value in values.items() if option not in _FIRST}
        return _from_base(values, base, name=name, **options)

    return convert


def _from_base(values: _Values, base: float, **schedule: Any) -> dict[str, Any]:
    """A schedule that can only begin at the base."""
    first = values["initial_learning_rate"]
    if first != base:
        raise TrialError(
            f"the schedule that becomes '{schedule['name']}' begins at {first}, and another one comes to {base}; all "
            "but constant, linear and piecewise constant ones must begin at the largest rate."
        )
    return schedule


_KINDS: Final[Mapping[str, tuple[Mapping[str, Option], Callable[[_Values, float], dict[str, Any]]]]] = {
    "constant": ({"learning_rate": NUMBER}, _constant),
    "exponential": ({**_FIRST, **_STEPS, "decay_rate": NUMBER, **_STAIRCASE}, _exponential),
    "piecewiseconstant": ({"boundaries": COUNTS, "values": NUMBERS}, _piecewise),
    "linear": ({**_FIRST, **_END, **_STEPS}, _linear),
    "polynomial": ({**_FIRST, **_END, **_STEPS, "power": NUMBER.by_default(1.0)}, _polynomial),
    "inverseexponentialtimedecay": (
        {**_FIRST, "step_exponent": NUMBER, **_STEPS, "decay_rate": NUMBER, **_STAIRCASE},
        _inverse_time,
    ),
    "cosinedecay": ({**_FIRST, **_END, **_STEPS}, _cosine_decay),
    "cosineannealing": ({**_FIRST, "T_max": COUNT, "eta_min": NUMBER.by_default(0.0)}, _as_named("cosine")),
    "step": ({**_FIRST, "step_size": COUNT, "gamma": NUMBER}, _as_named("step")),
    "multistep": ({**_FIRST, "milestones": COUNTS, "gamma": NUMBER}, _as_named("multistep")),
}
"""The options of each scheduler, by its name in small letters, and what it becomes."""
