"""A trial with the weights of a checkpoint, for inference."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import final

import torch
from typing_extensions import override

from mnist_trials.checkpoint import Manifest, read_checkpoint
from mnist_trials.config import trial_seed
from mnist_trials.errors import CheckpointError, TrialError
from mnist_trials.events import Event, StopRequest
from mnist_trials.plugin import Backend, Channel, ExecutionSettings, WorkerSpec, get_plugins
from mnist_trials.training.context import TrialContext
from mnist_trials.training.random_state import seeded
from mnist_trials.training.session import load_weights, prepare_model, weights_of
from mnist_trials.training.trial import Trial

HOME = "MNIST_TRIALS_HOME"


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
        checkpoint: the folder of a checkpoint, or the uuid (or the beginning of it) of one under the home.
        trial_class: the class to make the trial from. Default: the one that the checkpoint names, imported from the
            snapshot of its code where that is still there.
        backend: on what to put the model: "cpu" or "cuda".
        data_root: where data sets lie, for `evaluate`.
        channel: who is told of notices; nobody by default.

    Raises:
        CheckpointError: there is no such checkpoint, or it is damaged.
        TrialError: the class cannot be found, or its model is another than that of the checkpoint.
        PluginError: the device, or the precision of the training on it, is not to be had here.
    """
    folder = find_checkpoint(checkpoint)
    manifest, content = read_checkpoint(folder)
    cls = trial_class or _import(manifest)
    directory = tempfile.mkdtemp(prefix="mnist-trials-")
    experiment_seed = (manifest.config.get("reproducibility") or {}).get("experiment_seed", 0)
    seed = trial_seed(experiment_seed, manifest.trial_id)  # for what a trial derives from it, such as a split
    with seeded(seed):
        trial = cls(_context(folder, manifest, seed, backend, directory, data_root, channel or _Nobody()))
        weakref.finalize(trial, shutil.rmtree, directory, ignore_errors=True)
        model = _model_of(trial)
    load_weights(model, weights_of(content), trial.context.execution)
    if own := content.state.get("trial"):
        trial.load_state_dict(own)
    model.eval()
    return trial


def _model_of(trial: Trial) -> torch.nn.Module:
    try:
        return prepare_model(trial, trial.context)
    except AttributeError as error:
        if error.obj is not trial:
            raise
        raise TrialError(
            f"build_model() uses self.{error.name}, which is not there: a trial is loaded without build_data(). Set it "
            "in __init__, or take it from the hyperparameters."
        ) from error


def find_checkpoint(checkpoint: str | Path) -> Path:
    """The folder of a checkpoint: a path, or a uuid (or the beginning of one) under the home.

    Raises:
        CheckpointError: there is none, or there are several.
    """
    path = Path(checkpoint).expanduser()
    if path.is_dir():
        return path
    home = Path(os.environ.get(HOME) or "~/.mnist-trials").expanduser()
    name = str(checkpoint)
    found: list[Path] = []
    if name and set(name) <= set("0123456789abcdef-"):
        found = [*home.glob(f"checkpoints/*/{name}*"), *home.glob(f"scripts/*/checkpoints/{name}*")]
    if len(found) == 1:
        return found[0]
    if found:
        raise CheckpointError(f"'{name}' is the beginning of {len(found)} checkpoints under {home}; give more of it.")
    raise CheckpointError(
        f"There is no checkpoint '{name}': it is no folder, and no id of one under {home} begins with it. For a "
        "checkpoint in another storage, give the path of its folder."
    )


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
    chosen: Backend = plugins.find("backend", backend).factory({})
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


@final
class _Nobody(Channel):
    """Listens to nothing and asks for nothing."""

    @override
    def emit(self, event: Event) -> None:
        pass

    @override
    def stop_requested(self) -> StopRequest | None:
        return None
