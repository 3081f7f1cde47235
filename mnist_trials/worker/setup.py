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
    own_options,
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
    record = get_plugins().find("backend", spec.slot.backend)
    backend: Backend = record.factory(own_options(config.backend.options))
    settings = ExecutionSettings(
        slots=spec.slots,
        precision=config.precision,
        compile=config.compile is True,  # `program` is the Trainer's: it captures whole steps
        deterministic=config.deterministic,
        seed=spec.seed,
        loss_scale=config.loss_scale,
        layout=layout_of(spec, config),
        mesh=_own_mesh(spec, config) if backend.one_process else Mesh(data=1, tensor=1),
    )
    return backend.open(settings)


def _own_mesh(spec: WorkerSpec, config: ExperimentConfig) -> Mesh:
    """The mesh over the slots of the one process of a trial. A single slot that tries a trial out has no use for it.

    Raises:
        TrialError: the config's mesh is for another number of slots.
    """
    slots = len(spec.slots)
    if config.mesh is None or slots == 1:
        return Mesh(data=slots, tensor=1)
    _require_fit(config.mesh, slots)
    return config.mesh


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
    _require_fit(mesh, spec.size)
    return layout


def _require_fit(mesh: Mesh, slots: int) -> None:
    if mesh.data * mesh.tensor != slots:
        raise TrialError(
            f"The mesh {{data: {mesh.data}, tensor: {mesh.tensor}}} is for {mesh.data * mesh.tensor} slots, and this "
            f"trial was started on {slots}."
        )


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
