"""The parameters of FC-MNIST: train_input, eval_input, model, optimizer, runconfig."""

from __future__ import annotations

from typing import Any, Final

from mnist_trials.config.nodes import Node, plain
from mnist_trials.mnist.params.draft import Draft
from mnist_trials.mnist.params.fc_rates import learning_rate
from mnist_trials.mnist.params.reference import Reference
from mnist_trials.mnist.params.rules import (
    SIZES,
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
from mnist_trials.plugin.rate_options import COUNT, FLAG, NUMBER, NUMBERS

ALL: Final = 1000
"""How many checkpoints are kept where the reference keeps all."""

_OPTIMIZERS: Final = (
    "SGD", "Adam", "AdamW", "Adamax", "Adadelta", "Adagrad", "ASGD", "NAdam", "RAdam", "RMSprop", "Rprop",
)  # fmt: skip
_ROOT: Final = "give the folder that holds MNIST as `create --data-root DIR`"
_RUN_BY: Final = "processes are started by the launcher, for as many slots as there are"
_PICKLED: Final = "its checkpoints are pickles, and none are read here; train anew, or name one of these by `resume`"


def _num_workers(path: str, node: Node, draft: Draft) -> None:
    """Worker processes, which only one of the two ways to read the data has."""
    kept(WHOLE)(path, node, draft)
    if draft.values.get(path):
        draft.set("data.loader", "torchvision")
        draft.set("data.num_workers", draft.values[path])


def _weight_decay(path: str, node: Node, draft: Draft) -> None:
    becomes("hyperparameters.weight_decay", NUMBER)(path, node, draft)
    if draft.values.get(path):
        draft.warn(
            path,
            f"'{path}' leaves out biases there, and here it is for every parameter; a trial's own build_optimizer can "
            "do as is done there.",
        )


def _loss_scale(path: str, node: Node, draft: Draft) -> None:
    """A number, of which 1 is none, or dynamic."""
    scale = plain(node)
    if scale == "dynamic" or (NUMBER.fits(scale) and scale > 0):
        draft.values[path] = "none" if scale == 1 else scale
    else:
        draft.mistake(path, f"'{path}' must be a number above 0 or dynamic, not {scale!r}.")


def _replicas(path: str, node: Node, draft: Draft) -> None:
    """-1 leaves the number to the machine."""
    count = plain(node)
    if count == -1 or COUNT.fits(count):
        draft.set("resources.slots_per_trial", "auto" if count == -1 else count)
    else:
        draft.mistake(
            path, f"'{path}' must be a whole number of at least 1, or -1 for as many as there are, not {count!r}."
        )


def _finish(draft: Draft) -> None:
    _required(draft)
    _precision(draft)
    _length(draft)
    _periods(draft)
    _rest_of_validation(draft)


def _required(draft: Draft) -> None:
    for key, name in (
        ("train_input.batch_size", "global_batch_size"),
        ("optimizer.optimizer_type", "optimizer"),
        ("optimizer.learning_rate", "learning_rate"),
    ):
        if draft.get(f"hyperparameters.{name}") is None:
            draft.mistake(key.partition(".")[0], f"'{key}' is missing.")
    if draft.get("hyperparameters.hidden_sizes") is None and None in (
        draft.get("hyperparameters.depth"),
        draft.get("hyperparameters.hidden_size"),
    ):
        draft.mistake(
            "model", "the layers are missing: 'model.hidden_sizes', or 'model.depth' and 'model.hidden_size'."
        )


def _precision(draft: Draft) -> None:
    """Not taken over: there it changes nothing on a CPU, and here it makes one five times as slow."""
    mixed, scale = draft.values.get("model.mixed_precision", False), draft.values.get("optimizer.loss_scaling_factor")
    if mixed:
        draft.warn(
            "model.mixed_precision",
            "'model.mixed_precision' is not taken over: there it means float16 on a GPU, and nothing on a CPU. For a "
            f"GPU add `precision: fp16-mixed` and `loss_scale: {scale or 'none'}`.",
        )
    elif scale == "dynamic":
        draft.mistake(
            "optimizer.loss_scaling_factor",
            "'optimizer.loss_scaling_factor: dynamic' is for float16, which 'model.mixed_precision: true' asks for.",
        )
    elif scale not in (None, "none"):
        draft.set("loss_scale", scale)
    for path in ("train_input.to_float16", "eval_input.to_float16"):
        if draft.values.get(path):
            draft.meaningless(path)


def _length(draft: Draft) -> None:
    given = [name for name in ("max_steps", "num_steps", "num_epochs") if f"runconfig.{name}" in draft.values]
    if not given:
        draft.mistake("runconfig", "how long to train is missing: 'runconfig.max_steps', 'num_steps' or 'num_epochs'.")
    elif "num_epochs" in given and len(given) > 1:
        draft.mistake(
            "runconfig.num_epochs", f"'runconfig.num_epochs' and 'runconfig.{given[0]}' are both given; leave one out."
        )
    elif "num_epochs" in given:
        draft.set("searcher.max_length", {"epochs": draft.values["runconfig.num_epochs"]})
    else:
        steps = min(draft.values[f"runconfig.{name}"] for name in given)
        draft.set("searcher.max_length", {"batches": steps})


def _periods(draft: Draft) -> None:
    """Its evaluations read checkpoints, so they come where those are saved."""
    every = draft.values.get("runconfig.checkpoint_steps")
    if every:
        draft.set("min_validation_period", {"batches": every})
        draft.set("min_checkpoint_period", {"batches": every})
        draft.set("checkpoint_storage.save_trial_latest", ALL)


def _rest_of_validation(draft: Draft) -> None:
    train, other = (draft.values.get(f"{section}.drop_last_batch", False) for section in ("train_input", "eval_input"))
    if "eval_input.drop_last_batch" in draft.values and train != other:
        draft.mistake(
            "eval_input.drop_last_batch",
            "'eval_input.drop_last_batch' and 'train_input.drop_last_batch' differ, and here one key, data.drop_last, "
            "is for both. Make them the same; false leaves out no image.",
        )
    draft.set("data.drop_last", train)
    size = draft.values.get("eval_input.batch_size")
    if size is not None and size != draft.get("hyperparameters.global_batch_size"):
        draft.warn(
            "eval_input.batch_size",
            "'eval_input.batch_size' is not taken over: validation goes in batches of the size for training. Metrics "
            "are means over samples, so only the time depends on it.",
        )


_TRAIN_INPUT: Final = {
    "data_dir": elsewhere(_ROOT),
    "batch_size": becomes("hyperparameters.global_batch_size", COUNT),
    "shuffle": must_be(True, "training data are always shuffled"),
    "drop_last_batch": kept(FLAG),
    "num_workers": _num_workers,
    "to_float16": kept(FLAG),
    "use_fake_data": becomes("data.fake", FLAG),
}
_EVAL_INPUT: Final = {
    "data_dir": meaningless(),
    "batch_size": kept(COUNT),
    "shuffle": must_be(False, "validation data are never shuffled"),
    "drop_last_batch": kept(FLAG),
    "num_workers": meaningless(),
    "to_float16": kept(FLAG),
    "use_fake_data": meaningless(),
}
_MODEL: Final = {
    "name": must_be("fc_mnist", "these parameters are read as those of fc_mnist"),
    "mixed_precision": kept(FLAG),
    "hidden_sizes": becomes("hyperparameters.hidden_sizes", SIZES),
    "depth": becomes("hyperparameters.depth", COUNT),
    "hidden_size": becomes("hyperparameters.hidden_size", COUNT),
    "dropout": becomes("hyperparameters.dropout", NUMBER),
    "activation_fn": becomes("hyperparameters.activation", one_of("relu"), str.lower),
    "compute_eval_metrics": meaningless(),
    "allow_multireplica": meaningless(),
}
_OPTIMIZER: Final = {
    "optimizer_type": becomes("hyperparameters.optimizer", one_of(*_OPTIMIZERS), str.lower),
    "learning_rate": learning_rate,
    "weight_decay_rate": _weight_decay,
    "loss_scaling_factor": _loss_scale,
    "max_gradient_norm": becomes("hyperparameters.max_gradient_norm", NUMBER),
    "max_gradient_value": becomes("hyperparameters.max_gradient_value", NUMBER),
    "grad_accum_steps": becomes("hyperparameters.aggregation_frequency", COUNT),
    **{name: becomes(f"hyperparameters.{name}", NUMBER) for name in ("momentum", "dampening", "eps", "rho")},
    **{name: becomes(f"hyperparameters.{name}", FLAG) for name in ("nesterov", "amsgrad", "centered")},
    "betas": becomes("hyperparameters.betas", NUMBERS),
}
_RUNCONFIG: Final = {
    "max_steps": kept(COUNT),
    "num_steps": kept(COUNT),
    "num_epochs": kept(COUNT),
    "steps_per_epoch": becomes("limit_batches.training", COUNT),
    "eval_steps": becomes("limit_batches.validation", COUNT),
    "checkpoint_steps": kept(WHOLE),
    "save_initial_checkpoint": becomes("save_initial_checkpoint", FLAG),
    "log_steps": becomes("scheduling_unit", COUNT),
    "save_losses": must_be(True, "losses are always recorded"),
    "check_loss_values": becomes("on_nan", FLAG, {True: "stop", False: "warn"}.__getitem__),
    "seed": becomes("reproducibility.experiment_seed", WHOLE),
    "mode": elsewhere("`create --mode train`, `eval` or `train_and_eval` says it"),
    "model_dir": elsewhere("`--home DIR` says where everything lies"),
    "checkpoint_path": refused(_PICKLED),
    "is_pretrained_checkpoint": when(True, refused(_PICKLED)),
    "validate_only": when(True, elsewhere("`mnist-trials validate CONFIG` does it")),
    "compile_only": when(True, elsewhere("`mnist-trials compile CONFIG` does it")),
    "compile_dir": elsewhere("`mnist-trials compile CONFIG --out DIR` says it"),
    "num_replicas": _replicas,
    "multireplica": when(True, lambda path, node, draft: draft.set("resources.slots_per_trial", "auto")),
    "cs_ip": elsewhere(
        "which device, and where, are options of a backend, such as {name: xla, device: NAME, env: {...}}"
    ),
    "dist_addr": elsewhere(_RUN_BY),
    "dist_backend": elsewhere(_RUN_BY),
    "init_method": elsewhere(_RUN_BY),
    "logging": meaningless(),
}


def _table(**sections: dict[str, Any]) -> dict[str, Any]:
    return {f"{section}.{name}": rule for section, keys in sections.items() for name, rule in keys.items()}


FC_MNIST: Final = Reference(
    name="FC-MNIST",
    example="train_input, eval_input, model, optimizer, runconfig",
    sections=("train_input", "eval_input", "model", "optimizer", "runconfig"),
    start={
        "entrypoint": "mnist_trials.mnist.trials:FCMNIST",
        "hyperparameters": {"loss": "nll"},
        "data": {},
        "searcher": {"name": "single", "metric": "validation_loss", "smaller_is_better": True},
    },
    keys=_table(
        train_input=_TRAIN_INPUT,
        eval_input=_EVAL_INPUT,
        model=_MODEL,
        optimizer=_OPTIMIZER,
        runconfig=_RUNCONFIG,
    ),
    finish=_finish,
)
