"""The sections of an experiment config as frozen records, and how each comes from and goes to a checked document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, final

from mnist_trials.config.keys import RETENTION
from mnist_trials.config.launch_layer import uses_launch_layer
from mnist_trials.units import UNITS, Schedule, Unit

_RETENTION: Final = tuple(key.name for key in RETENTION)


@final
@dataclass(frozen=True, slots=True)
class PluginChoice:
    """A plugin by name and the options that stand beside the name."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> PluginChoice:
        """The plugin that a map of `name` and options names."""
        return cls(values["name"], {name: value for name, value in values.items() if name != "name"})

    def to_dict(self) -> dict[str, Any]:
        """As a map of `name` and options."""
        return {"name": self.name, **self.options}


@final
@dataclass(frozen=True, slots=True)
class Entrypoint:
    """What to run: a Trial class (`module:Class`) or a command."""

    trial: str | None = None  # "module:TrialClass"
    command: tuple[str, ...] = ()  # empty for a Trial class

    @classmethod
    def of(cls, value: str | list[str]) -> Entrypoint:
        """The entrypoint: `module:Class` as a string, a command as a list of words."""
        return cls(trial=value) if isinstance(value, str) else cls(command=tuple(value))

    @property
    def per_rank(self) -> bool:
        """Whether it is run on every slot of a trial: a Trial class, or a command behind the launch layer.

        Any other command is run once, however many slots its trial has.
        """
        return self.trial is not None or uses_launch_layer(self.command)

    def to_config(self) -> str | list[str]:
        """As `of` takes it."""
        return self.trial or list(self.command)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SearcherConfig:
    """The `searcher` section. `settings` is the whole section as resolved JSON, defaults filled in, for the plugin."""

    name: str
    metric: str
    smaller_is_better: bool
    max_length: Unit | None  # None: the entrypoint decides (commands)
    source_trial_id: str | None  # "EXP.TRIAL", for a warm start
    source_checkpoint_uuid: str | None
    settings: Mapping[str, Any]

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> SearcherConfig:
        """The searcher that the section `settings` describes."""
        length = settings["max_length"]
        return cls(
            name=settings["name"],
            metric=settings["metric"],
            smaller_is_better=settings["smaller_is_better"],
            max_length=None if length is None else unit_of(length),
            source_trial_id=settings["source_trial_id"],
            source_checkpoint_uuid=settings["source_checkpoint_uuid"],
            settings=settings,
        )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """The `resources` section."""

    slots_per_trial: int | Literal["auto"]
    max_slots: int | None
    is_single_node: bool | None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointStorageConfig:
    """The `checkpoint_storage` section. `storage` None: a directory under the home."""

    storage: PluginChoice | None
    save_experiment_best: int
    save_trial_best: int
    save_trial_latest: int
    max_checkpoint_bytes: int | None
    save_optimizer: bool

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> CheckpointStorageConfig:
        """The storage that a section describes; options that were left out are not passed on."""
        own = {"type", *_RETENTION}
        options = {name: value for name, value in values.items() if name not in own and value is not None}
        storage = None if values["type"] is None else PluginChoice(values["type"], options)
        return cls(storage=storage, **{name: values[name] for name in _RETENTION})

    def to_dict(self) -> dict[str, Any]:
        """As a section."""
        kept = {name: getattr(self, name) for name in _RETENTION}
        if self.storage is None:
            return {"type": None, **kept}
        return {"type": self.storage.name, **self.storage.options, **kept}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """How a trial's slots are arranged; None in the config means all of them data parallel."""

    data: int
    tensor: int


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Watchdog:
    """The `watchdog` section."""

    start_seconds: int
    progress_seconds: int


def unit_of(value: Mapping[str, int]) -> Unit:
    """The length behind `{batches: n}` and the like."""
    ((name, count),) = value.items()
    return UNITS[name](count)


def schedule_of(value: Mapping[str, int] | list[Mapping[str, int]] | None) -> Schedule | None:
    """The schedule behind a length, or a list of lengths."""
    if value is None:
        return None
    return tuple(unit_of(point) for point in value) if isinstance(value, list) else unit_of(value)


def schedule_to_config(schedule: Schedule | None) -> dict[str, int] | list[dict[str, int]] | None:
    """As `schedule_of` takes it."""
    if schedule is None:
        return None
    return schedule.to_config() if isinstance(schedule, Unit) else [point.to_config() for point in schedule]
