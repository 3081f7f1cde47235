"""The experiment config as frozen records. `mnist_trials.config.load` makes one from YAML; see docs/config.md."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, final

from mnist_trials.config.checking import check, mapping_root
from mnist_trials.config.keys import EXPERIMENT
from mnist_trials.config.parts import (
    CheckpointStorageConfig,
    Entrypoint,
    Mesh,
    PluginChoice,
    Resources,
    SearcherConfig,
    Watchdog,
    schedule_of,
    schedule_to_config,
)
from mnist_trials.config.report import Report
from mnist_trials.units import Schedule

__all__ = [
    "CheckpointPolicy",
    "CheckpointStorageConfig",
    "Entrypoint",
    "ExperimentConfig",
    "LossScale",
    "Mesh",
    "OnNan",
    "PluginChoice",
    "Precision",
    "Resources",
    "SearcherConfig",
    "Watchdog",
]

Precision = Literal["fp32", "bf16-mixed", "fp16-mixed", "bf16-true"]
CheckpointPolicy = Literal["best", "all", "none"]
OnNan = Literal["stop", "skip", "warn"]
LossScale = float | Literal["none", "dynamic"]

_AS_THEY_ARE: Final = (
    "name",
    "description",
    "project",
    "hyperparameters",
    "checkpoint_policy",
    "max_restarts",
    "perform_initial_validation",
    "save_initial_checkpoint",
    "limit_batches",
    "scheduling_unit",
    "data",
    "precision",
    "loss_scale",
    "shard",
    "compile",
    "on_nan",
    "resume",
    "watch",
)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentConfig:
    """A whole experiment config, every default filled in.

    `from_dict(config.to_dict()) == config`; `to_dict` is strict JSON and is itself a valid config.
    """

    name: str
    description: str
    labels: tuple[str, ...]
    project: str
    entrypoint: Entrypoint
    hyperparameters: Mapping[str, Any]  # as resolved JSON: constants plain, ranges as {type: ...} maps
    searcher: SearcherConfig
    resources: Resources
    checkpoint_storage: CheckpointStorageConfig
    checkpoint_policy: CheckpointPolicy
    min_validation_period: Schedule | None
    min_checkpoint_period: Schedule | None
    max_restarts: int
    perform_initial_validation: bool
    save_initial_checkpoint: bool
    experiment_seed: int  # reproducibility.experiment_seed
    deterministic: bool  # reproducibility.deterministic
    records_per_epoch: int | None
    limit_batches: Mapping[str, int | None] | None  # {training: n, validation: n}
    scheduling_unit: int  # batches between two reports of training metrics
    profiling: bool  # profiling.enabled
    data: Mapping[str, Any]  # free-form, for the trial
    log_policies: tuple[Mapping[str, Any], ...]
    backend: PluginChoice  # name "auto" by default
    precision: Precision
    loss_scale: LossScale | None  # None: what the precision needs
    mesh: Mesh | None
    shard: bool
    watchdog: Watchdog
    launcher: PluginChoice  # name "local" by default
    compile: bool | Literal["program"]
    loggers: tuple[PluginChoice, ...]
    on_nan: OnNan
    resume: Mapping[str, Any] | None  # {from: last|best|PATH}
    watch: Mapping[str, Any] | None  # {what: gradients|parameters|all, every: n}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> ExperimentConfig:
        """The config of a checked document, every default filled in."""
        return cls(
            **{name: values[name] for name in _AS_THEY_ARE},
            labels=tuple(values["labels"]),
            entrypoint=Entrypoint.of(values["entrypoint"]),
            searcher=SearcherConfig.of(values["searcher"]),
            resources=Resources(**values["resources"]),
            checkpoint_storage=CheckpointStorageConfig.of(values["checkpoint_storage"]),
            min_validation_period=schedule_of(values["min_validation_period"]),
            min_checkpoint_period=schedule_of(values["min_checkpoint_period"]),
            experiment_seed=values["reproducibility"]["experiment_seed"],
            deterministic=values["reproducibility"]["deterministic"],
            records_per_epoch=values["records_per_epoch"] or None,
            profiling=values["profiling"]["enabled"],
            log_policies=tuple(values["log_policies"]),
            backend=PluginChoice.of(values["backend"]),
            mesh=None if values["mesh"] is None else Mesh(**values["mesh"]),
            watchdog=Watchdog(**values["watchdog"]),
            launcher=PluginChoice.of(values["launcher"]),
            loggers=tuple(PluginChoice.of(logger) for logger in values["loggers"]),
        )

    def to_dict(self) -> dict[str, Any]:
        """As strict JSON in the shape of a config file."""
        document = {
            **{name: getattr(self, name) for name in _AS_THEY_ARE},
            "labels": list(self.labels),
            "entrypoint": self.entrypoint.to_config(),
            "searcher": dict(self.searcher.settings),
            "resources": asdict(self.resources),
            "checkpoint_storage": self.checkpoint_storage.to_dict(),
            "min_validation_period": schedule_to_config(self.min_validation_period),
            "min_checkpoint_period": schedule_to_config(self.min_checkpoint_period),
            "reproducibility": {"experiment_seed": self.experiment_seed, "deterministic": self.deterministic},
            "records_per_epoch": self.records_per_epoch,
            "profiling": {"enabled": self.profiling},
            "log_policies": list(self.log_policies),
            "backend": self.backend.to_dict(),
            "mesh": None if self.mesh is None else asdict(self.mesh),
            "watchdog": asdict(self.watchdog),
            "launcher": self.launcher.to_dict(),
            "loggers": [logger.to_dict() for logger in self.loggers],
        }
        return copy.deepcopy({name: document[name] for name in EXPERIMENT.names})

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> ExperimentConfig:
        """The config behind `to_dict`'s document.

        Raises:
            ConfigError: the document is not a valid config.
        """
        report = Report()
        return cls.of(check(mapping_root(document, report), "experiment", report))
