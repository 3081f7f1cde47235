"""What a search will do, told before it begins: brackets, rungs, and how many trials train for how long."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, final

from typing_extensions import override

from mnist_trials.config import ExperimentConfig, load, sample
from mnist_trials.config.space import points
from mnist_trials.errors import PluginError
from mnist_trials.experiment.machinery import Workshop
from mnist_trials.experiment.offer import slots_per_trial
from mnist_trials.experiment.planned import planned_duration, planned_lengths
from mnist_trials.experiment.simulation import check_searcher
from mnist_trials.experiment.simulation.records import Conditions
from mnist_trials.experiment.simulation.search import Simulation, places
from mnist_trials.experiment.simulation.validations import searcher_unit
from mnist_trials.experiment.slots import concurrency, first_trials
from mnist_trials.plugin import Bracket, SearcherContext, get_plugins

_MOST_EVENTS = 1_000_000


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """The plan of one search."""

    searcher: str
    max_concurrent_trials: int
    brackets: tuple[Bracket, ...]
    unit: str
    estimated_seconds: float | None  # None: not asked for
    warnings: tuple[str, ...]  # of the config
    notes: tuple[str, ...]  # what else a person should know

    @property
    def lengths(self) -> dict[int, int]:
        """How many trials train for how many units, the shortest first."""
        return dict(sorted(item for item in planned_lengths(self.brackets).items() if item[1]))

    @property
    def trials(self) -> int:
        """How many are made in all."""
        return sum(bracket.trials[0] for bracket in self.brackets)

    @property
    def total_units(self) -> int:
        """What all trials train together."""
        return sum(units * trials for units, trials in self.lengths.items())

    def to_json(self) -> dict[str, Any]:
        """As `preview-search --json` prints it."""
        estimated = {} if self.estimated_seconds is None else {"estimated_seconds": self.estimated_seconds}
        return {
            "searcher": self.searcher,
            "trials": self.trials,
            "max_concurrent_trials": self.max_concurrent_trials,
            "brackets": [
                {
                    "rungs": bracket.rungs,
                    "trials": bracket.trials[0],
                    "max_concurrent_trials": bracket.max_concurrent_trials,
                }
                for bracket in self.brackets
            ],
            "lengths": [{"units": units, "trials": trials} for units, trials in self.lengths.items()],
            "unit": self.unit,
            "total_units": self.total_units,
            **estimated,
        }


def preview(
    config: str | Path | Mapping[str, Any],
    *,
    overrides: Sequence[str] = (),
    slots: int | None = None,
    seconds_per_unit: float | None = None,
) -> Preview:
    """What the search of a config will do; nothing is started, and neither data nor code is looked at.

    Where `slots` and `seconds_per_unit` are given it estimates how long training takes on so many slots. A searcher
    that tells no plan is run in a simulation with random metrics.

    Raises:
        ConfigError: mistakes in the config, all of them, with positions.
        PluginError: the searcher fails, or it tells no plan, and its simulation does not come to an end or breaks a
            rule.
        UsageError: the config tells no length, or a trial does not fit on `slots`.
    """
    loaded = load(config, overrides)
    check_searcher(loaded)
    given = loaded.config
    if slots is not None:
        places(given, slots)  # which complains
    plan = _plan(given)
    at_once = _begun_at_once(given) if plan is None else _planned_at_once(given, plan)
    notes: list[str] = []
    duration: float | None = None
    if plan is None:
        plan, duration = _counted(given, at_once, slots)
        notes.append(
            f"The searcher '{given.searcher.name}' tells no plan: this is how its search went in a simulation with "
            "random metrics."
        )
    elif slots is not None:
        duration = planned_duration(plan, places(given, slots))
    notes += _space_notes(given, sum(bracket.trials[0] for bracket in plan))
    return Preview(
        searcher=given.searcher.name,
        max_concurrent_trials=at_once,
        brackets=tuple(plan),
        unit=searcher_unit(given)[0],
        estimated_seconds=None if duration is None or seconds_per_unit is None else duration * seconds_per_unit,
        warnings=loaded.warnings,
        notes=tuple(notes),
    )


def _plan(config: ExperimentConfig) -> Sequence[Bracket] | None:
    searcher = Workshop(get_plugins(), config, {}).searcher()
    try:
        return searcher.brackets()
    except (Exception, SystemExit) as error:  # foreign code
        raise PluginError(
            f"The searcher '{config.searcher.name}' failed in brackets: {type(error).__name__}: {error}."
        ) from error


def _planned_at_once(config: ExperimentConfig, plan: Sequence[Bracket]) -> int:
    """How many trials may run at once: as many as the brackets have places, or fewer where the config says so."""
    bound = concurrency(config) or sum(bracket.trials[0] for bracket in plan)
    return min(bound, sum(bracket.max_concurrent_trials for bracket in plan))


def _begun_at_once(config: ExperimentConfig) -> int:
    """How many trials may run at once; where nothing bounds them, how many begin."""
    seed, space = config.experiment_seed, config.hyperparameters
    context = SearcherContext(experiment_seed=seed, sample=lambda index: sample(space, seed, index))
    return concurrency(config) or first_trials(Workshop(get_plugins(), config, {}).searcher(), context)


def _counted(config: ExperimentConfig, at_once: int, slots: int | None) -> tuple[list[Bracket], float]:
    """The brackets of a search without a plan as they come out, and how long it takes in the time of one unit."""
    dice = Random(config.experiment_seed)  # noqa: S311
    offered = max(at_once, 1) * slots_per_trial(config, 1) if slots is None else slots
    search = Simulation(config, lambda hparams, units: dice.random(), slots=offered, conditions=_Bounded(config))
    result = search.run()
    by_bracket: dict[int, list[int]] = {}
    for trial in result.trials:
        by_bracket.setdefault(trial.bracket, []).append(trial.units)
    return [_bracket(by_bracket[index], at_once) for index in sorted(by_bracket)], result.seconds


def _bracket(lengths: list[int], at_once: int) -> Bracket:
    rungs = tuple(sorted(set(lengths)))
    lengths.sort()
    trials = tuple(len(lengths) - bisect_left(lengths, units) for units in rungs)
    return Bracket(rungs=rungs, trials=trials, max_concurrent_trials=at_once)


@final
class _Bounded(Conditions):
    """Ends a search that would never end."""

    def __init__(self, config: ExperimentConfig) -> None:
        self._name = config.searcher.name
        self._left = _MOST_EVENTS

    @override
    def interrupted(self) -> bool:
        self._left -= 1
        if not self._left:
            raise PluginError(
                f"The searcher '{self._name}' tells no plan, and in a simulation with random metrics its search did "
                f"not come to an end within {_MOST_EVENTS:,} validations."
            )
        return False


def _space_notes(config: ExperimentConfig, trials: int) -> Iterator[str]:
    most, asked = points(config.hyperparameters), config.searcher.settings.get("max_trials")
    if most is None or not isinstance(asked, int) or most >= asked:
        return
    what = "the search ends with them" if trials <= most else "some come again, with other seeds"
    yield f"The hyperparameters have only {most:,} different points, fewer than max_trials, {asked:,}: {what}."
