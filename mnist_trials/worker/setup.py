"""Builds what a trial needs from its spec: device, checkpoint storage, context."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mnist_trials.config import ExperimentConfig, Mesh
from mnist_trials.errors import TrialError
from mnist_trials.plugin import (
    Backend,
    Channel,
    CheckpointStorage,
    Execution,
    ExecutionSettings,
    Layout,
    WorkerSpec,
    get_plugins,
)

if TYPE_CHECKING:
    from mnist_trials.training.context import TrialContext


def open_context(spec: WorkerSpec, config: ExperimentConfig, channel: Channel) -> TrialContext:
    """Take the device, meet the other ranks, and give the context of the trial.

    Raises:
        PluginError: a plugin, the device or the precision is not to be had here.
        TrialError: the config's mesh is for another number of ranks.
        RanksMissing: some ranks did not come in time.
    """
    from mnist_trials.training.context import TrialContext

    excepthook = sys.excepthook
    execution = _open_backend(spec, config)
    if spec.experiment_id:  # torch has it put the rank before every line; the launcher does so too
        sys.excepthook = excepthook
    return TrialContext(spec, channel, execution, open_storage(spec, config))


def _open_backend(spec: WorkerSpec, config: ExperimentConfig) -> Execution:
    # The controller has chosen where the config says `auto`.
    backend: Backend = get_plugins().find("backend", spec.slot.backend).factory(config.backend.options)
    settings = ExecutionSettings(
        slots=spec.slots,
        precision=config.precision,
        compile=bool(config.compile),
        deterministic=config.deterministic,
        seed=spec.seed,
        layout=layout_of(spec, config),
    )
    return backend.open(settings)


def layout_of(spec: WorkerSpec, config: ExperimentConfig) -> Layout:
    """Where the rank of `spec` stands among the ranks of its trial. A single process has no use for a mesh.

    Raises:
        TrialError: the config's mesh is for another number of ranks.
    """
    mesh = config.mesh if config.mesh is not None and spec.size > 1 else Mesh(data=spec.size, tensor=1)
    layout = Layout(
        rank=spec.rank,
        mesh=mesh,
        shard=config.shard,
        rendezvous=spec.rendezvous,
        start_seconds=float(config.watchdog.start_seconds),
    )
    if layout.size != spec.size:
        raise TrialError(
            f"The mesh {{data: {mesh.data}, tensor: {mesh.tensor}}} is for {layout.size} slots, and this trial was "
            f"started on {spec.size}."
        )
    return layout


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
