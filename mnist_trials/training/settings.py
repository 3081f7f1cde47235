"""What a call of `fit` is to do: its arguments, and the experiment's config for what they leave open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from mnist_trials.errors import TrialError
from mnist_trials.training.context import TrialContext
from mnist_trials.units import UNITS, Batch, Schedule, Unit

POLICIES: Final = ("best", "all", "none")
ON_NAN: Final = ("stop", "skip", "warn")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class FitSettings:
    """Everything about a training that is not the trial's own."""

    max_length: Unit
    validation_period: Schedule | None
    checkpoint_period: Schedule | None
    reporting_period: Schedule
    checkpoint_policy: str
    initial_validation: bool
    test_mode: bool
    profiling: bool
    on_nan: str
    metric: str | None  # what the trial is judged by
    smaller_is_better: bool
    metric_required: bool  # whether a validation without that metric is an error
    records_per_epoch: int | None


def resolve(
    context: TrialContext,
    *,
    max_length: Unit | None,
    validation_period: Schedule | None,
    checkpoint_period: Schedule | None,
    reporting_period: Schedule | None,
    checkpoint_policy: str | None,
    step_zero_validation: bool | None,
    test_mode: bool,
    profiling_enabled: bool | None,
) -> FitSettings:
    """The settings of a `fit` with these arguments; None leaves a choice to the experiment's config.

    Raises:
        TrialError: an argument is none of those allowed, or nothing says how long to train.
    """
    config = context.experiment_config
    searcher: Mapping[str, Any] = config.get("searcher") or {}
    testing = test_mode or context.test_mode
    if max_length is None:
        max_length = _unit_of(searcher.get("max_length"))
    if testing:
        max_length = Batch(1)
    if not isinstance(max_length, Unit):
        raise TrialError(
            f"fit() needs a max_length such as Batch(1000), Epoch(3) or Record(60000), not {max_length!r}; in an "
            "experiment it may also be given as searcher.max_length."
        )
    initial = step_zero_validation
    return FitSettings(
        max_length=max_length,
        validation_period=_schedule("validation_period", validation_period, config.get("min_validation_period")),
        checkpoint_period=_schedule("checkpoint_period", checkpoint_period, config.get("min_checkpoint_period")),
        reporting_period=_schedule("reporting_period", reporting_period, config.get("scheduling_unit")) or Batch(100),
        checkpoint_policy=_choice("checkpoint_policy", checkpoint_policy or config.get("checkpoint_policy"), POLICIES),
        initial_validation=bool(config.get("perform_initial_validation")) if initial is None else initial,
        test_mode=testing,
        profiling=_profiling(config) if profiling_enabled is None else profiling_enabled,
        on_nan=_choice("on_nan", config.get("on_nan"), ON_NAN),
        metric=searcher.get("metric"),
        smaller_is_better=bool(searcher.get("smaller_is_better", True)),
        metric_required=context.in_experiment,
        records_per_epoch=config.get("records_per_epoch"),
    )


def _schedule(name: str, given: object, configured: object) -> Schedule | None:
    if given is None:
        return _schedule_of(configured)
    if isinstance(given, Unit):
        return given
    if isinstance(given, Sequence) and given and all(isinstance(point, Unit) for point in given):
        return tuple(given)
    raise TrialError(
        f"{name} must be a period such as Batch(100) or Epoch(1), or a list of points such as [Batch(10), Batch(50)]; "
        f"not {given!r}."
    )


def _schedule_of(value: object) -> Schedule | None:
    if isinstance(value, list | tuple):
        return tuple(unit for entry in value if (unit := _unit_of(entry)) is not None)
    return _unit_of(value)


def _unit_of(value: object) -> Unit | None:
    """A length as a config has it: `{"epochs": 2}`, a number of batches, or absent."""
    if isinstance(value, Mapping):
        return next((UNITS[key](count) for key, count in value.items() if key in UNITS), None)
    return Batch(value) if isinstance(value, int) else None


def _choice(name: str, value: object, allowed: tuple[str, ...]) -> str:
    if value is None:
        return allowed[0]
    if value not in allowed:
        raise TrialError(f"{name} must be one of {', '.join(allowed)}, not {value!r}.")
    return str(value)


def _profiling(config: Mapping[str, Any]) -> bool:
    section = config.get("profiling")
    return bool(section.get("enabled")) if isinstance(section, Mapping) else bool(section)
