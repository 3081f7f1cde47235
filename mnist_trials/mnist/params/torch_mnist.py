"""The parameters of the torch MNIST reference: one flat map."""

from __future__ import annotations

from typing import Final

from mnist_trials.config.nodes import Node, describe, plain
from mnist_trials.mnist.params.draft import Draft
from mnist_trials.mnist.params.reference import Reference
from mnist_trials.mnist.params.rules import (
    TEXT,
    TEXTS,
    WHOLE,
    becomes,
    elsewhere,
    kept,
    meaningless,
    must_be,
    one_of,
    refused,
    when,
)
from mnist_trials.plugin.rate_options import COUNT, FLAG, NUMBER, Option

_TRIALS: Final = "mnist_trials.mnist.trials"
_UNREAD: Final = "nothing reads it there, so taking it over would change what is trained; here it is"
_HOME: Final = "`--home DIR` says where everything lies"
_MESH: Final = Option(
    lambda value: (
        isinstance(value, list) and 1 <= len(value) <= 2 and all(type(size) is int and size for size in value)
    ),
    "two whole numbers, such as [2, 1] or '2,1'",
)
_LINEAR: Final = {"hidden_size": 512, "bias": True}
_CNN: Final = {
    "conv1_channels": 32,
    "conv2_channels": 64,
    "kernel_size": 3,
    "stride": 1,
    "hidden_size": 128,
    "dropout1": 0.25,
    "dropout2": 0.5,
    "bias": True,
}
"""What the code there has where the file says nothing."""
_METRICS: Final = {"val/loss": "validation_loss", "val/accuracy": "accuracy"}


def _model_name(path: str, node: Node, draft: Draft) -> None:
    name = str(plain(node)).lower()
    found = [trial for part, trial in (("linear", "MNISTLinear"), ("cnn", "MNISTCNN")) if part in name]
    if len(found) == 1:
        draft.set("entrypoint", f"{_TRIALS}:{found[0]}")
    else:
        draft.mistake(path, f"'{path}' names neither the linear model nor the CNN: {describe(node)}.")


def _dtype(path: str, node: Node, draft: Draft) -> None:
    """bfloat16 is for data, weights and updates alike there."""
    name = str(plain(node)).removeprefix("torch.")
    if name == "bfloat16":
        draft.set("precision", "bf16-true")
        draft.set("data.dtype", "bfloat16")
    elif name != "float32":
        draft.mistake(path, f"'{path}' is torch.float32 or torch.bfloat16, not {describe(node)}.")


def _mesh_shape(path: str, node: Node, draft: Draft) -> None:
    shape = plain(node)
    if isinstance(shape, str):
        shape = [int(size) if size.strip().isdigit() else 0 for size in shape.split(",")]
    if _MESH.fits(shape):
        draft.values[path] = shape
    else:
        draft.mistake(path, f"'{path}' must be {_MESH.words}, not {describe(node)}.")


def _finish(draft: Draft) -> None:
    _trial(draft)
    _mesh(draft)
    _periods(draft)
    _resume(draft)
    _wandb(draft)


def _trial(draft: Draft) -> None:
    if draft.get("entrypoint") is None:
        cnn = draft.get("hyperparameters.conv1_channels") is not None
        draft.set("entrypoint", f"{_TRIALS}:{'MNISTCNN' if cnn else 'MNISTLinear'}")
    constants = _CNN if draft.get("entrypoint") == f"{_TRIALS}:MNISTCNN" else _LINEAR
    draft.config["hyperparameters"] = {**constants, **draft.config["hyperparameters"]}
    for key, path in (("lr", "learning_rate"), ("batch_size", "global_batch_size"), ("loss_fn", "loss")):
        if draft.get(f"hyperparameters.{path}") is None:
            draft.mistake(key, f"'{key}' is missing.")
    if draft.get("searcher.max_length") is None:
        draft.mistake("epochs", "'epochs' is missing.")


def _mesh(draft: Draft) -> None:
    kind = draft.values.get("parallelism", "single").lower() or "single"
    if kind == "single":
        return
    slots = 1
    for size in draft.values.get("mesh_shape", [2, 1]):
        slots *= size
    draft.set("resources.slots_per_trial", slots)
    draft.set("mesh", {"data": slots, "tensor": 1} if kind == "data" else {"data": 1, "tensor": slots})
    if kind == "tensor":
        draft.warn(
            "parallelism",
            "tensor parallel training takes cross entropy there, whatever 'loss_fn' says; here it is what that says.",
        )


def _periods(draft: Draft) -> None:
    steps, epochs = draft.values.get("steps_freq", 100), draft.values.get("epoch_freq", 5)
    draft.set("scheduling_unit", steps)
    draft.set("min_validation_period", {"batches": steps})
    match draft.values.get("save_strategy", "epoch").lower():
        case "epoch":
            draft.set("min_checkpoint_period", {"epochs": epochs})
        case "step":
            draft.set("min_checkpoint_period", {"batches": steps})
        case _:
            draft.set("checkpoint_policy", "none")


def _resume(draft: Draft) -> None:
    if not draft.values.get("resume_from_checkpoint"):
        return
    option = draft.values.get("resume_option", "last").lower()
    if option == "path":
        draft.mistake(
            "resume_from_checkpoint",
            "its checkpoints are pickles, and none are read here; train anew, or name one of these by `resume`.",
        )
    else:
        draft.set("resume", {"from": option})


def _wandb(draft: Draft) -> None:
    if not draft.values.get("use_wandb"):
        return
    names = {"project": "wandb_project", "run_name": "wandb_run_name", "tags": "wandb_tags"}
    options = {option: draft.values[key] for option, key in names.items() if key in draft.values}
    draft.set("loggers", [{"name": "wandb", **options}])
    if draft.values.get("model_to_wandb"):
        what = draft.values.get("wandb_watch_mode", "all").lower()
        draft.set("watch", {"what": what, "every": draft.values.get("wandb_log_freq", 100)})


_DATA: Final = {
    "dataset_id": becomes("data.name", one_of("mnist"), str.lower),
    "train_ratio": elsewhere(f"{_UNREAD} data.train_ratio"),
    "dtype": _dtype,
    "model_name": _model_name,
    "input_size": must_be(784, "images are of 28 x 28"),
    "output_size": must_be(10, "there are ten classes"),
    **{
        name: becomes(f"hyperparameters.{name}", COUNT)
        for name in ("hidden_size", "conv1_channels", "conv2_channels", "kernel_size", "stride")
    },
    **{name: becomes(f"hyperparameters.{name}", NUMBER) for name in ("dropout1", "dropout2")},
    "bias": becomes("hyperparameters.bias", FLAG),
}
_TRAINING: Final = {
    "lr": becomes("hyperparameters.learning_rate", NUMBER),
    "batch_size": becomes("hyperparameters.global_batch_size", COUNT),
    "epochs": becomes("searcher.max_length", COUNT, lambda epochs: {"epochs": epochs}),
    "loss_fn": becomes("hyperparameters.loss", one_of("torch.nn.MSELoss", "torch.nn.CrossEntropyLoss")),
    "optim": becomes("hyperparameters.optimizer", one_of("sgd"), str.lower),
    "seed": becomes("reproducibility.experiment_seed", WHOLE),
    "deterministic": becomes("reproducibility.deterministic", FLAG),
    "framework": must_be("pytorch", "this is the torch reference"),
}
_LOGGING: Final = {
    "train_log_steps": elsewhere(f"{_UNREAD} scheduling_unit"),
    "val_log_epochs": elsewhere(f"{_UNREAD} min_validation_period"),
    "steps_freq": kept(COUNT),
    "epoch_freq": kept(COUNT),
    "log_level": meaningless(),
    "experiment_name": becomes("name", TEXT),
    "output_dir": elsewhere(_HOME),
    "project_dir": elsewhere(_HOME),
    "use_wandb": kept(FLAG),
    "wandb_project": kept(TEXT),
    "wandb_run_name": kept(TEXT),
    "wandb_tags": kept(TEXTS),
    "wandb_watch_mode": kept(one_of("all", "gradients", "parameters")),
    "wandb_log_freq": kept(COUNT),
    "model_to_wandb": kept(FLAG),
}
_CHECKPOINTS: Final = {
    "checkpoint_dir": elsewhere("give `checkpoint_storage: {type: directory, container_path: DIR}`"),
    "save_optim": becomes("checkpoint_storage.save_optimizer", FLAG),
    "save_strategy": kept(one_of("epoch", "step", "none")),
    "checkpoint_metric": becomes("searcher.metric", one_of(*_METRICS), lambda name: _METRICS[name.lower()]),
    "checkpoint_metric_mode": becomes("searcher.smaller_is_better", one_of("min", "max"), lambda mode: mode == "min"),
    "keep_best_n": becomes("checkpoint_storage.save_trial_best", WHOLE),
    "keep_last_n": becomes("checkpoint_storage.save_trial_latest", WHOLE),
    "resume_from_checkpoint": kept(FLAG),
    "resume_option": kept(one_of("last", "best", "path")),
    "checkpoint_path": meaningless(),
    "storage_backend": must_be("local", "it is the only one there; give a checkpoint_storage of another type"),
    **{
        name: when(True, refused("there is no such storage there; give a checkpoint_storage of type s3 or another"))
        for name in ("sync_to_storage", "load_from_storage")
    },
    "remote_path": meaningless(),
}
_DEVICES: Final = {
    "parallelism": kept(one_of("", "single", "data", "tensor")),
    "mesh_shape": _mesh_shape,
    "mesh_axis_names": meaningless(),
    "use_tt": when(True, elsewhere("where there is such a device, add `backend: {name: xla, device: TT}`")),
    "device": meaningless(),
}


TORCH_MNIST: Final = Reference(
    name="torch MNIST",
    example="dataset_id, hidden_size, batch_size, loss_fn, parallelism, ... in one map",
    sections=(),
    start={
        "hyperparameters": {"optimizer": "sgd"},
        "data": {"one_hot": True, "drop_last": True},
        "searcher": {"name": "single", "metric": "validation_loss", "smaller_is_better": True},
    },
    keys={**_DATA, **_TRAINING, **_LOGGING, **_CHECKPOINTS, **_DEVICES},
    finish=_finish,
)
