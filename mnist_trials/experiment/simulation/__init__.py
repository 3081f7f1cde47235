"""`mt.simulate`: a whole search on a simulated clock; no processes, no data, an objective in place of training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mnist_trials.config import Loaded, load
from mnist_trials.errors import ConfigError, PluginError
from mnist_trials.experiment.machinery import Workshop
from mnist_trials.experiment.simulation.records import Objective, SimulationResult
from mnist_trials.experiment.simulation.search import Simulation
from mnist_trials.plugin import get_plugins


def simulate(
    config: str | Path | Mapping[str, Any],
    objective: Objective,
    *,
    slots: int = 1,
    seed: int | None = None,
    seconds_per_unit: float = 1.0,
) -> SimulationResult:
    """Run the searcher of a config to its end on a simulated clock; nothing is started or stored.

    Args:
        config: a path to a YAML file, or the config as a mapping; its code and data are not looked at.
        objective: given a trial's hyperparameters and how many units it has trained, those in weights that it started
            with included, the metric `searcher.metric`. It may raise `InvalidHP`; whatever else it raises fails its
            trial for good and is kept as the trial's `error`.
        slots: how many there are; a trial takes `resources.slots_per_trial` of them.
        seed: in place of the config's experiment seed.
        seconds_per_unit: how long a trial trains for one unit of `searcher.max_length`, in simulated seconds.

    Trials are validated where the searcher asks for it, at their ends, and by `min_validation_period` where that is
    given in the unit of `searcher.max_length`. Validation, saving and starting take no time.

    Raises:
        ConfigError: mistakes in the config, all of them, with positions.
        PluginError: the searcher breaks a rule.
        UsageError: the config tells no length, a trial does not fit on `slots`, or the objective returns no number.
    """
    loaded = load(config, () if seed is None else [f"reproducibility.experiment_seed={seed}"])
    check_searcher(loaded)
    return Simulation(loaded.config, objective, slots=slots, seconds_per_unit=seconds_per_unit).run()


def check_searcher(loaded: Loaded) -> None:
    """Make the config's searcher, to see that it can be made.

    Raises:
        ConfigError: it is unknown or does not take its options; with its place in the config.
    """
    try:
        Workshop(get_plugins(), loaded.config, {}).searcher()
    except PluginError as error:
        raise ConfigError([loaded.problem("searcher.name", str(error))]) from error
