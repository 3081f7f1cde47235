"""A trial with the weights of a checkpoint, for inference."""

from __future__ import annotations

import importlib
import sys
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from mnist_trials.checkpoint import Manifest, read_checkpoint
from mnist_trials.checkpoint.named import fetched
from mnist_trials.config import trial_seed
from mnist_trials.errors import TrialError
from mnist_trials.plugin import Backend, Channel, ExecutionSettings, PluginManager, WorkerSpec, get_plugins
from mnist_trials.plugin.launcher import Quiet
from mnist_trials.plugin.scratch import Scratch
from mnist_trials.training.context import TrialContext
from mnist_trials.training.data.random_state import seeded
from mnist_trials.training.portions import learner_of
from mnist_trials.training.torch_models.models import load_weights, prepare_model, weights_of
from mnist_trials.training.trial import Trial


def load_trial(
    checkpoint: str | Path,
    trial_class: type[Trial] | None = None,
    *,
    backend: str = "cpu",
    data_root: str | Path | None = None,
    channel: Channel | None = None,
) -> Trial:
    """Rebuild a trial with its hyperparameters, weights and own state, its `model` in eval mode. Nothing is unpickled.

    It is a single process's, on however many slots the checkpoint was written.

    Of the trial, `__init__`, `build_model` and, where it had a state of its own, `load_state_dict` are called; no data
    is built. The process's random state, threads and settings stay as they are, but for the device's random state.

    Args:
        checkpoint: the folder of a checkpoint, its URL, or the id (or the beginning of it) of one in a folder under the
            home.
        trial_class: the class to make the trial from. Default: the one that the checkpoint names, imported from the
            snapshot of its code where that is still there.
        backend: on what to put the model: "cpu" or "cuda". A trial that was trained on a backend with models of its own
            (jax) is put on that one's CPU device, or what it has by default.
        data_root: where data sets lie, for `evaluate`.
        channel: who is told of notices; nobody by default.

    Raises:
        CheckpointError: there is no such checkpoint, or it is damaged.
        TrialError: the class cannot be found, or its model is another than that of the checkpoint.
        PluginError: the device, the precision of the training on it, or the storage of a URL is not to be had here.
    """
    with fetched(checkpoint) as folder:
        manifest, content = read_checkpoint(folder)
    cls = trial_class or _import(manifest)
    scratch = Scratch()
    experiment_seed = (manifest.config.get("reproducibility") or {}).get("experiment_seed", 0)
    seed = trial_seed(experiment_seed, manifest.trial_id)  # for what a trial derives from it, such as a split
    with seeded(seed):
        try:
            trial = cls(_context(folder, manifest, seed, backend, str(scratch.path), data_root, channel or Quiet()))
        except BaseException:
            scratch.remove()
            raise
        weakref.finalize(trial, scratch.remove)
        _build_model(trial)
    if trial._learner is not None:
        trial._learner.load_weights(content.model)
    else:
        load_weights(trial.model, weights_of(content), trial.context.execution)
        trial.model.eval()
    if own := content.state.get("trial"):
        trial.load_state_dict(own)
    return trial


def _build_model(trial: Trial) -> None:
    try:
        if learner_of(trial, trial.context, None, learns=False) is None:
            prepare_model(trial, trial.context)
    except AttributeError as error:
        if error.obj is not trial:
            raise
        raise TrialError(
            f"build_model() uses self.{error.name}, which is not there: a trial is loaded without build_data(). Set it "
            "in __init__, or take it from the hyperparameters."
        ) from error


def _context(
    folder: Path,
    manifest: Manifest,
    seed: int,
    backend: str,
    directory: str,
    data_root: str | Path | None,
    channel: Channel,
) -> TrialContext:
    plugins = get_plugins()
    chosen = _backend(plugins, backend, manifest)
    slot = replace(chosen.slots(1)[0], threads=torch.get_num_threads())
    execution = chosen.open(
        ExecutionSettings(
            slots=(slot,),
            precision=str(manifest.config.get("precision") or "fp32"),
            compile=False,
            deterministic=torch.are_deterministic_algorithms_enabled(),
            seed=seed,
        )
    )
    spec = WorkerSpec(
        experiment_id=manifest.experiment_id,
        trial_id=manifest.trial_id,
        run=1,
        rank=0,
        size=1,
        slots=(slot,),
        config=manifest.config,
        hparams=manifest.hparams,
        seed=seed,
        context_dir=manifest.code or "",
        trial_dir=directory,
        log_path="",
        checkpoint_root=str(folder.parent),
        data_root=None if data_root is None else str(data_root),
    )
    return TrialContext(
        spec, channel, execution, plugins.find("checkpoint_storage", "directory").factory({}, folder.parent)
    )


def _backend(plugins: PluginManager, asked_for: str, manifest: Manifest) -> Backend:
    """The backend `asked_for`; or that of the training, where no other can take over its models."""
    given = manifest.config.get("backend")
    name = given.get("name") if isinstance(given, Mapping) else given
    if name in plugins.names("backend"):
        trained_on: Backend = plugins.find("backend", str(name)).factory({})
        if trained_on.own_models:
            return trained_on
    chosen: Backend = plugins.find("backend", asked_for).factory({})
    return chosen


def _import(manifest: Manifest) -> type[Trial]:
    module_name, _, class_name = manifest.trial_class.partition(":")
    advice = "Give the class yourself: load_trial(checkpoint, trial_class=MyTrial)."
    if module_name == "__main__" and not hasattr(sys.modules["__main__"], class_name):
        raise TrialError(f"The trial's class '{class_name}' was defined in a script that was run. {advice}")
    with _on_path(manifest.code):
        try:
            found: object = importlib.import_module(module_name)
        except ImportError as error:
            raise TrialError(
                f"The trial's class '{manifest.trial_class}' cannot be imported: {error}. {advice}"
            ) from error
    for part in class_name.split("."):
        found = getattr(found, part, None)
    if not (isinstance(found, type) and issubclass(found, Trial)):
        raise TrialError(f"'{manifest.trial_class}' is no Trial class here. {advice}")
    return found


@contextmanager
def _on_path(folder: str | None) -> Iterator[None]:
    if folder is None or not Path(folder).is_dir():
        yield
        return
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
