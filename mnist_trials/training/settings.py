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

    max_length: Unit | None  # None: until it is asked to stop
    validation_period: Schedule | None
    own_validation_period: bool  # whether `fit` was given one: it is then kept to
    validate_at: tuple[Unit, ...]  # where the searcher judges the trial
    counted_in: type[Unit] | None  # what the searcher counts in; None: in a metric, nothing is known of it here
    until: Unit | None  # how far to train before asking
    checkpoint_period: Schedule | None
    reporting_period: Schedule
    checkpoint_policy: str
    save_optimizer: bool  # also at the end of training, from which nothing goes on
    initial_validation: bool
    final_validation: bool
    initial_checkpoint: bool
    evaluates_only: bool  # a checkpoint, and trains nothing
    test_mode: bool
    profiling: bool
    watch: Mapping[str, Any] | None  # {what: gradients, parameters or all, every: n}
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
    timed = context.in_experiment and searcher.get("max_time") is not None
    spec = context.spec
    judged_only = spec.mode == "train" and not timed  # one that is timed is judged at all of its validations
    validation = _schedule("validation_period", validation_period, config.get("min_validation_period"))
    initial = bool(config.get("perform_initial_validation")) if step_zero_validation is None else step_zero_validation
    unit = None if testing else _counted_in(searcher)
    policy = _choice("checkpoint_policy", checkpoint_policy or config.get("checkpoint_policy"), POLICIES)
    return FitSettings(
        max_length=Batch(1) if testing else _length(max_length, searcher.get("max_length"), validation, timed),
        validation_period=None if judged_only else validation,
        own_validation_period=validation_period is not None and not judged_only,
        validate_at=() if unit is None else tuple(unit(value) for value in sorted(set(spec.validate_at))),
        counted_in=unit,
        until=None if unit is None or spec.until is None else unit(spec.until),
        checkpoint_period=_schedule("checkpoint_period", checkpoint_period, config.get("min_checkpoint_period")),
        reporting_period=_schedule("reporting_period", reporting_period, config.get("scheduling_unit")) or Batch(100),
        checkpoint_policy="none" if spec.mode == "eval" else policy,
        save_optimizer=bool((config.get("checkpoint_storage") or {}).get("save_optimizer", True)),
        initial_validation=initial and spec.mode == "train_and_eval",
        initial_checkpoint=bool(config.get("save_initial_checkpoint")),
        final_validation=spec.mode != "train",
        evaluates_only=spec.mode == "eval",
        test_mode=testing,
        profiling=_profiling(config) if profiling_enabled is None else profiling_enabled,
        watch=config.get("watch"),
        on_nan=_choice("on_nan", config.get("on_nan"), ON_NAN),
        metric=searcher.get("metric"),
        smaller_is_better=bool(searcher.get("smaller_is_better", True)),
        metric_required=context.in_experiment and searcher.get("name", "single") == "single",
        records_per_epoch=config.get("records_per_epoch"),
    )


def _length(given: Unit | None, configured: object, validation: Schedule | None, timed: bool) -> Unit | None:
    """How long to train; None: until it is asked to stop, as it may be where a trial is `timed`."""
    length = _unit_of(configured) if given is None else given
    if length is None and timed:
        if isinstance(validation, Unit):
            return None
        raise TrialError(
            "The experiment ends this training by searcher.max_time, which it looks at after each validation, so there "
            "must be a validation every so often: set min_validation_period in the config, such as {batches: 100}, or "
            "give fit() a validation_period such as Batch(100), or a max_length."
        )
    if not isinstance(length, Unit):
        raise TrialError(
            f"fit() needs a max_length such as Batch(1000), Epoch(3) or Record(60000), not {length!r}; in an "
            "experiment it may also be given as searcher.max_length."
        )
    return length


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


def _counted_in(searcher: Mapping[str, Any]) -> type[Unit] | None:
    length = _unit_of(searcher.get("max_length"))
    return None if length is None or searcher.get("max_time") is not None else type(length)


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
