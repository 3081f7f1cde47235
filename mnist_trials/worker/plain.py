"""The spec of a trial that belongs to no experiment: a plain script's own, also as one of several ranks."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from mnist_trials.config import ExperimentConfig, load, sample, trial_seed
from mnist_trials.config.hyperparameters import ranges
from mnist_trials.errors import PluginError, UsageError
from mnist_trials.plugin import Backend, WorkerSpec, get_plugins, own_options, python_of
from mnist_trials.records import Slot

Source = str | Path | Mapping[str, Any]

_AUTO = ("cuda", "cpu")
"""What `backend: auto` tries, in order."""


@final
@dataclass(frozen=True, slots=True)
class Place:
    """Where torchrun, or whoever sets its variables, has put this process."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0  # on this machine
    local_size: int = 1

    @classmethod
    def of_environment(cls) -> Place:
        """As RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE say; a single process where they are not set.

        Raises:
            UsageError: they are no numbers, or fit no group of processes.
        """
        if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
            return cls()
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        given = {name: os.environ.get(name, os.environ[name.removeprefix("LOCAL_")]) for name in names}
        try:
            place = cls(*map(int, given.values()))
        except ValueError:
            place = cls(size=0)
        if not (0 <= place.rank < place.size and 0 <= place.local_rank < place.local_size):
            said = ", ".join(f"{name}={value}" for name, value in given.items())
            raise UsageError(
                f"The environment says {said}: these are torchrun's variables, and no process has such a place. "
                "Unset RANK and WORLD_SIZE to run the script by itself."
            )
        return place


def plain_spec(
    hparams: Mapping[str, Any], source: Source | None, seed: int | None, data_root: str | Path | None
) -> tuple[WorkerSpec, ExperimentConfig]:
    """What a script's trial is made from; the arguments are those of `mt.init`.

    Raises:
        ConfigError: mistakes in the config.
        UsageError: it has a range that `hparams` gives no value for, the variables of torchrun make no sense, or the
            config names another interpreter.
        PluginError: there is no device of the kind that the config asks for.
    """
    script = Path(sys.argv[0] or "interactive").stem
    config = load(source if source is not None else _config_of(script)).config
    home = Path(os.environ.get("MNIST_TRIALS_HOME") or "~/.mnist-trials").expanduser().absolute()
    directory = home / "scripts" / script
    data = data_root if data_root is not None else os.environ.get("MNIST_TRIALS_DATA")
    place = Place.of_environment()
    _require_interpreter(config)
    slots, environment = _slots(config, place)
    spec = WorkerSpec(
        experiment_id=0,
        trial_id=1,
        run=1,
        rank=place.rank,
        size=place.size,
        slots=slots,
        config=config.to_dict(),
        hparams=_hyperparameters(config, hparams),
        seed=seed if seed is not None else trial_seed(config.experiment_seed, 1),
        context_dir=os.getcwd(),
        trial_dir=str(directory),
        log_path="",
        checkpoint_root=str(directory / "checkpoints"),
        data_root=str(data) if data else None,
        environment=environment,
        rendezvous="env://" if place.size > 1 else "",
    )
    return spec, config


def _config_of(script: str) -> dict[str, Any]:
    return {
        "name": script,
        "entrypoint": ["python3", script],
        "searcher": {"name": "single", "metric": "validation_loss"},
    }


def _hyperparameters(config: ExperimentConfig, given: Mapping[str, Any]) -> dict[str, Any]:
    missing = [path for path, _ in ranges(config.hyperparameters) if not _holds(given, path)]
    if missing:
        raise UsageError(
            f"The config leaves {', '.join(missing)} to a search, and a script has none: give a value for each, as in "
            f"mt.init(config=..., hparams={{'{missing[0].split('.')[0]}': ...}}), or run it with `mnist-trials create`."
        )
    return _overlay(sample(config.hyperparameters, config.experiment_seed, 1), given)


def _holds(values: Mapping[str, Any], path: str) -> bool:
    name, _, rest = path.partition(".")
    if name not in values or not rest:
        return name in values
    return isinstance(values[name], Mapping) and _holds(values[name], rest)


def _overlay(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for name, value in above.items():
        under = merged.get(name)
        merged[name] = _overlay(under, value) if isinstance(under, Mapping) and isinstance(value, Mapping) else value
    return merged


def _slots(config: ExperimentConfig, place: Place) -> tuple[tuple[Slot, ...], Mapping[str, str]]:
    """This process's slots of the config's kind of device, and the variables that a process on them needs."""
    choice = config.backend
    for name in _AUTO if choice.name == "auto" else (choice.name,):
        backend = _backend(name, choice.options, optional=choice.name == "auto")
        if backend is not None and backend.slots(None):
            slots = _of_all(backend, config, place) if backend.one_process else _of_one(backend, place)
            return slots, backend.environment(slots)
    raise PluginError(f"The backend '{choice.name}' finds no device on this machine. Try `backend: auto`.")


def _of_one(backend: Backend, place: Place) -> tuple[Slot, ...]:
    return (backend.slots(place.local_size)[place.local_rank],)


def _of_all(backend: Backend, config: ExperimentConfig, place: Place) -> tuple[Slot, ...]:
    """All slots of the trial, for a backend that drives them from one process."""
    if place.size > 1:
        raise UsageError(
            f"The backend '{config.backend.name}' drives all slots of a trial from one process, and this is one of "
            f"{place.size} (RANK and WORLD_SIZE). Start the script by itself; 'resources.slots_per_trial' of its "
            "config says how many slots it takes."
        )
    wanted = config.resources.slots_per_trial
    return backend.slots(None if wanted == "auto" else wanted)


def _require_interpreter(config: ExperimentConfig) -> None:
    """See that this process runs in the interpreter that the config names, if it does."""
    python = python_of(config.backend.name, config.backend.options)
    if python is not None and Path(python) != Path(sys.executable).absolute():
        raise UsageError(
            f"The config names the interpreter {python} for the backend '{config.backend.name}', and this script runs "
            f"in {sys.executable}. Start the script with that one."
        )


def _backend(name: str, options: Mapping[str, Any], optional: bool) -> Backend | None:
    try:
        backend: Backend = get_plugins().find("backend", name).factory(own_options(options))
    except PluginError:
        if optional:
            return None
        raise
    return backend
