"""The experiment config: read, check, and draw hyperparameters from it. Imports nothing heavier than PyYAML."""

from mnist_trials.config.loading import Loaded, load
from mnist_trials.config.sampling import sample, trial_seed
from mnist_trials.config.schema import (
    CheckpointPolicy,
    CheckpointStorageConfig,
    Entrypoint,
    ExperimentConfig,
    LossScale,
    Mesh,
    OnNan,
    PluginChoice,
    Precision,
    Resources,
    SearcherConfig,
)

__all__ = [
    "CheckpointPolicy",
    "CheckpointStorageConfig",
    "Entrypoint",
    "ExperimentConfig",
    "Loaded",
    "LossScale",
    "Mesh",
    "OnNan",
    "PluginChoice",
    "Precision",
    "Resources",
    "SearcherConfig",
    "load",
    "sample",
    "trial_seed",
]
