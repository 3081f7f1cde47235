"""Builds what a trial needs from its spec: device, checkpoint storage, context."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mnist_trials.config import ExperimentConfig
from mnist_trials.plugin import (
    Backend,
    Channel,
    CheckpointStorage,
    Execution,
    ExecutionSettings,
    WorkerSpec,
    get_plugins,
)

if TYPE_CHECKING:
    from mnist_trials.training.context import TrialContext


def open_context(spec: WorkerSpec, config: ExperimentConfig, channel: Channel) -> TrialContext:
    """Take the device and give the context of the trial.

    Raises:
        PluginError: a plugin, the device or the precision is not to be had here.
    """
    from mnist_trials.training.context import TrialContext

    return TrialContext(spec, channel, _open_backend(spec, config), open_storage(spec, config))


def _open_backend(spec: WorkerSpec, config: ExperimentConfig) -> Execution:
    # The controller has chosen where the config says `auto`.
    backend: Backend = get_plugins().find("backend", spec.slot.backend).factory(config.backend.options)
    settings = ExecutionSettings(
        slot=spec.slot,
        precision=config.precision,
        compile=bool(config.compile),
        deterministic=config.deterministic,
        seed=spec.seed,
    )
    return backend.open(settings)


def open_storage(spec: WorkerSpec, config: ExperimentConfig) -> CheckpointStorage:
    """The storage that the config names, or the directory at `spec.checkpoint_root`.

    Raises:
        PluginError: there is no such storage, or not with these options.
    """
    choice = config.checkpoint_storage.storage
    name, options = ("directory", {}) if choice is None else (choice.name, choice.options)
    storage: CheckpointStorage = (
        get_plugins().find("checkpoint_storage", name).factory(options, Path(spec.checkpoint_root))
    )
    return storage
