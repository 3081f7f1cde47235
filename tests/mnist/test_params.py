"""Parameter files of the references, as configs: each key does something, is named as doing nothing, or is refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from typing import Any

import pytest

from mnist_trials.config import load
from mnist_trials.errors import ConfigError
from mnist_trials.mnist.params import translate
from mnist_trials.mnist.params.reading import REFERENCES
from tests.integration.support import Command
from tests.mnist.translating import FILES, Changed

ROOT = Path(__file__).parents[2]


def at(config: Mapping[str, Any], path: str) -> Any:
    return reduce(lambda node, name: node.get(name) if isinstance(node, Mapping) else None, path.split("."), config)


def test_the_defaults_of_fc_mnist_are_the_settings_of_fc_mnist_deep() -> None:
    made = load(translate(FILES["fc_mnist"]).config).config.to_dict()
    shipped = load(ROOT / "experiment_configs" / "fc_mnist_deep.yaml").config.to_dict()
    assert {**made, "name": shipped["name"]} == shipped


def test_the_defaults_of_the_torch_reference_are_the_settings_of_linear_data_parallel() -> None:
    made = load(translate(FILES["torch_linear"]).config).config.to_dict()
    shipped = load(ROOT / "experiment_configs" / "linear_data_parallel.yaml").config.to_dict()
    same = ("entrypoint", "resources", "mesh", "searcher", "reproducibility", "scheduling_unit", "precision")
    assert {key: made[key] for key in same} == {key: shipped[key] for key in same}
    assert {**made["hyperparameters"], "loss": "mse"} == shipped["hyperparameters"]
    assert (made["min_validation_period"], made["min_checkpoint_period"]) == (
        shipped["min_validation_period"],
        shipped["min_checkpoint_period"],
    )


def test_what_is_made_of_the_defaults_runs(tmp_path: Path) -> None:
    command = Command(tmp_path / "home", tmp_path)
    command("import", FILES["fc_mnist"], "--to", "made.yaml")
    assert command.json("create", "made.yaml", "--test", "--config", "data.name=digits")["state"] == "COMPLETED"


FC = [
    ("train_input.batch_size", 64, "hyperparameters.global_batch_size", 64),
    ("train_input.num_workers", 2, "data.num_workers", 2),
    ("train_input.num_workers", 2, "data.loader", "torchvision"),
    ("train_input.use_fake_data", True, "data.fake", True),
    ("model.hidden_sizes", [500, 300], "hyperparameters.hidden_sizes", [500, 300]),
    ("model.depth", 3, "hyperparameters.depth", 3),
    ("model.hidden_size", 60, "hyperparameters.hidden_size", 60),
    ("model.dropout", 0.2, "hyperparameters.dropout", 0.2),
    ("model.activation_fn", "ReLU", "hyperparameters.activation", "relu"),
    ("optimizer.optimizer_type", "AdamW", "hyperparameters.optimizer", "adamw"),
    ("optimizer.learning_rate", 0.1, "hyperparameters.learning_rate", 0.1),
    ("optimizer.momentum", 0.5, "hyperparameters.momentum", 0.5),
    ("optimizer.weight_decay_rate", 0.01, "hyperparameters.weight_decay", 0.01),
    ("optimizer.dampening", 0.1, "hyperparameters.dampening", 0.1),
    ("optimizer.nesterov", True, "hyperparameters.nesterov", True),
    ("optimizer.amsgrad", True, "hyperparameters.amsgrad", True),
    ("optimizer.centered", True, "hyperparameters.centered", True),
    ("optimizer.eps", 1e-8, "hyperparameters.eps", 1e-8),
    ("optimizer.rho", 0.9, "hyperparameters.rho", 0.9),
    ("optimizer.betas", [0.9, 0.99], "hyperparameters.betas", [0.9, 0.99]),
    ("optimizer.max_gradient_norm", 1.0, "hyperparameters.max_gradient_norm", 1.0),
    ("optimizer.max_gradient_value", 0.5, "hyperparameters.max_gradient_value", 0.5),
    ("optimizer.grad_accum_steps", 4, "hyperparameters.aggregation_frequency", 4),
    ("runconfig.max_steps", 500, "searcher.max_length", {"batches": 500}),
    ("runconfig.num_steps", 500, "searcher.max_length", {"batches": 500}),  # and max_steps is 10000
    ("runconfig.steps_per_epoch", 20, "limit_batches.training", 20),
    ("runconfig.eval_steps", 3, "limit_batches.validation", 3),
    ("runconfig.checkpoint_steps", 100, "min_checkpoint_period", {"batches": 100}),
    ("runconfig.checkpoint_steps", 0, "min_checkpoint_period", None),
    ("runconfig.save_initial_checkpoint", True, "save_initial_checkpoint", True),
    ("runconfig.log_steps", 10, "scheduling_unit", 10),
    ("runconfig.check_loss_values", True, "on_nan", "stop"),
    ("runconfig.check_loss_values", False, "on_nan", "warn"),
    ("runconfig.seed", 7, "reproducibility.experiment_seed", 7),
    ("runconfig.num_replicas", 2, "resources.slots_per_trial", 2),
    ("runconfig.num_replicas", -1, "resources.slots_per_trial", "auto"),
    ("runconfig.multireplica", True, "resources.slots_per_trial", "auto"),
]

WANDB = {"name": "wandb", "project": "mnist", "run_name": "linear", "tags": ["linear", "test"]}
TORCH = [
    ("dataset_id", "MNIST", "data.name", "mnist"),
    ("dtype", "torch.bfloat16", "precision", "bf16-true"),
    ("dtype", "torch.bfloat16", "data.dtype", "bfloat16"),
    ("model_name", "mnist_cnn", "entrypoint", "mnist_trials.mnist.trials:MNISTCNN"),
    ("conv1_channels", 16, "hyperparameters.conv1_channels", 16),
    ("conv2_channels", 16, "hyperparameters.conv2_channels", 16),
    ("kernel_size", 5, "hyperparameters.kernel_size", 5),
    ("stride", 2, "hyperparameters.stride", 2),
    ("dropout1", 0.1, "hyperparameters.dropout1", 0.1),
    ("dropout2", 0.1, "hyperparameters.dropout2", 0.1),
    ("hidden_size", 64, "hyperparameters.hidden_size", 64),
    ("bias", True, "hyperparameters.bias", True),
    ("lr", 0.1, "hyperparameters.learning_rate", 0.1),
    ("batch_size", 32, "hyperparameters.global_batch_size", 32),
    ("epochs", 2, "searcher.max_length", {"epochs": 2}),
    ("loss_fn", "torch.nn.CrossEntropyLoss", "hyperparameters.loss", "torch.nn.CrossEntropyLoss"),
    ("optim", "SGD", "hyperparameters.optimizer", "sgd"),
    ("seed", 1, "reproducibility.experiment_seed", 1),
    ("deterministic", True, "reproducibility.deterministic", True),
    ("steps_freq", 50, "scheduling_unit", 50),
    ("steps_freq", 50, "min_validation_period", {"batches": 50}),
    ("epoch_freq", 2, "min_checkpoint_period", {"epochs": 2}),
    ("save_strategy", "step", "min_checkpoint_period", {"batches": 100}),
    ("save_strategy", "none", "checkpoint_policy", "none"),
    ("save_strategy", "none", "min_checkpoint_period", None),
    ("experiment_name", "first", "name", "first"),
    ("use_wandb", False, "loggers", None),
    ("use_wandb", False, "watch", None),
    ("wandb_project", "p", "loggers", [{**WANDB, "project": "p"}]),
    ("wandb_run_name", "r", "loggers", [{**WANDB, "run_name": "r"}]),
    ("wandb_tags", ["t"], "loggers", [{**WANDB, "tags": ["t"]}]),
    ("wandb_watch_mode", "gradients", "watch.what", "gradients"),
    ("wandb_log_freq", 5, "watch.every", 5),
    ("model_to_wandb", False, "watch", None),
    ("save_optim", True, "checkpoint_storage.save_optimizer", True),
    ("checkpoint_metric", "val/accuracy", "searcher.metric", "accuracy"),
    ("checkpoint_metric_mode", "max", "searcher.smaller_is_better", False),
    ("keep_best_n", 2, "checkpoint_storage.save_trial_best", 2),
    ("keep_last_n", 0, "checkpoint_storage.save_trial_latest", 0),
    ("resume_from_checkpoint", True, "resume", {"from": "last"}),
    ("parallelism", "single", "mesh", None),
    ("parallelism", "tensor", "mesh", {"data": 1, "tensor": 2}),
    ("mesh_shape", [4, 1], "mesh", {"data": 4, "tensor": 1}),
    ("mesh_shape", [4, 1], "resources.slots_per_trial", 4),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "key", "value", "target", "expected"),
    [("fc_mnist", *row) for row in FC] + [("torch_linear", *row) for row in TORCH],
)
def test_a_key_changes_the_config(
    changed: Changed, name: str, key: str, value: Any, target: str, expected: Any
) -> None:
    assert at(changed(name, {key: value}).config, target) == expected
    if value is not None:
        assert at(translate(FILES[name]).config, target) != expected or value in ("ReLU", "MNIST", "SGD")


def test_what_the_file_does_not_say_is_what_the_code_there_has(changed: Changed) -> None:
    made = changed("torch_linear", {"model_name": "MNISTCNN", "hidden_size": None, "bias": None}).config
    shipped = load(ROOT / "experiment_configs" / "cnn.yaml").config.hyperparameters
    same = ("conv1_channels", "conv2_channels", "kernel_size", "stride", "hidden_size", "dropout1", "dropout2")
    assert [made["hyperparameters"][name] for name in same] == [shipped[name] for name in same]
    assert made["hyperparameters"]["bias"] is True


def test_the_best_checkpoint_can_be_gone_on_from(changed: Changed) -> None:
    made = changed("torch_linear", {"resume_from_checkpoint": True, "resume_option": "best"})
    assert made.config["resume"] == {"from": "best"}


def test_short_batches_are_left_out_in_both_parts_of_the_data_or_in_none(changed: Changed) -> None:
    made = changed("fc_mnist", {"train_input.drop_last_batch": False, "eval_input.drop_last_batch": False})
    assert made.config["data"]["drop_last"] is False


def test_epochs_of_fc_mnist_take_the_place_of_steps(changed: Changed) -> None:
    made = changed("fc_mnist", {"runconfig.max_steps": None, "runconfig.num_epochs": 10})
    assert made.config["searcher"]["max_length"] == {"epochs": 10}


WARNED = {
    "fc_mnist": [
        ("train_input.data_dir", "data"), ("train_input.to_float16", True), ("eval_input.to_float16", True),
        ("eval_input.data_dir", "data"), ("eval_input.num_workers", 2), ("eval_input.use_fake_data", True),
        ("eval_input.batch_size", 64), ("model.mixed_precision", True), ("model.compute_eval_metrics", True),
        ("model.allow_multireplica", True), ("optimizer.weight_decay_rate", 0.1), ("runconfig.mode", "train"),
        ("runconfig.model_dir", "x"), ("runconfig.validate_only", True), ("runconfig.compile_only", True),
        ("runconfig.compile_dir", "x"), ("runconfig.cs_ip", "10.0.0.1"), ("runconfig.dist_addr", "x"),
        ("runconfig.dist_backend", "nccl"), ("runconfig.init_method", "env://"), ("runconfig.logging", "INFO"),
    ],
    "torch_linear": [
        ("train_ratio", 0.8), ("train_log_steps", 1), ("val_log_epochs", 1), ("log_level", "DEBUG"),
        ("output_dir", "x"), ("project_dir", "x"), ("checkpoint_dir", "x"), ("checkpoint_path", "x"),
        ("remote_path", "x"), ("mesh_axis_names", ["data", "model"]), ("use_tt", True), ("device", "TT"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("name", "key", "value"), [(name, *row) for name, rows in WARNED.items() for row in rows])
def test_a_key_that_is_not_taken_over_is_named_in_a_warning(changed: Changed, name: str, key: str, value: Any) -> None:
    told = " ".join(changed(name, {key: value}).warnings)
    assert re.search(rf"[' ]{re.escape(key)}[',.]", told)


REFUSED = {
    "fc_mnist": [
        ("train_input.shuffle", False, "cannot be had here: training data are always shuffled"),
        ("eval_input.shuffle", True, "cannot be had here: validation data are never shuffled"),
        ("eval_input.drop_last_batch", False, "differ, and here one key, data.drop_last, is for both"),
        ("train_input.batch_size", "many", "'train_input.batch_size' must be a whole number of at least 1, not 'many'"),
        ("model.name", "bert", "'model.name' is 'bert', which cannot be had here"),
        ("model.activation_fn", "gelu", "'model.activation_fn' must be one of relu, not 'gelu'"),
        ("model.depth", None, "the layers are missing: 'model.hidden_sizes', or 'model.depth' and 'model.hidden_size'"),
        ("optimizer.optimizer_type", "Lamb", "'optimizer.optimizer_type' must be one of SGD, Adam,"),
        ("optimizer.loss_scaling_factor", 0, "must be a number above 0 or dynamic, not 0"),
        ("train_input.batch_size", None, "'train_input.batch_size' is missing"),
        ("optimizer.optimizer_type", None, "'optimizer.optimizer_type' is missing"),
        ("optimizer.learning_rate", None, "'optimizer.learning_rate' is missing"),
        ("runconfig.max_steps", None, "how long to train is missing"),
        ("runconfig.num_epochs", 3, "'runconfig.num_epochs' and 'runconfig.max_steps' are both given; leave one out"),
        ("runconfig.num_replicas", 0, "must be a whole number of at least 1, or -1"),
        ("runconfig.save_losses", False, "losses are always recorded"),
        ("runconfig.checkpoint_path", "checkpoint_2000.mdl", "its checkpoints are pickles"),
        ("runconfig.is_pretrained_checkpoint", True, "its checkpoints are pickles"),
        ("model.hiden_size", 4, "FC-MNIST has no parameter 'model.hiden_size'. Did you mean 'hidden_size'? Known in"),
        ("model.learning_rate", 1, "Did you mean 'optimizer.learning_rate'?"),
        ("runconfigs", {}, "FC-MNIST has no parameter 'runconfigs'. Did you mean 'runconfig'?"),
        ("model", 3, "'model' is a map of keys to values, not 3."),
    ],
    "torch_linear": [
        ("model_name", "MNIST", "names neither the linear model nor the CNN"),
        ("dtype", "torch.float64", "is torch.float32 or torch.bfloat16, not 'torch.float64'"),
        ("loss_fn", "torch.nn.L1Loss", "must be one of torch.nn.MSELoss, torch.nn.CrossEntropyLoss"),
        ("input_size", 100, "images are of 28 x 28"),
        ("output_size", 2, "there are ten classes"),
        ("framework", "jax", "this is the torch reference"),
        ("mesh_shape", "two", "must be two whole numbers"),
        ("parallelism", "pipeline", "must be one of , single, data, tensor"),
        ("storage_backend", "s3", "it is the only one there"),
        ("sync_to_storage", True, "give a checkpoint_storage of type s3"),
        ("load_from_storage", True, "give a checkpoint_storage of type s3"),
        ("lr", None, "'lr' is missing"),
        ("epochs", None, "'epochs' is missing"),
        ("keep_last", 3, "has no parameter 'keep_last'. Did you mean 'keep_last_n'?"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "key", "value", "message"), [(name, *row) for name, rows in REFUSED.items() for row in rows]
)
def test_what_cannot_be_had_is_refused(changed: Changed, name: str, key: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        changed(name, {key: value})
    assert message in str(refused.value)


def test_the_loss_of_tensor_parallel_training_is_told_to_be_another(changed: Changed) -> None:
    told = changed("torch_linear", {"parallelism": "tensor"}).warnings
    assert any("takes cross entropy there, whatever 'loss_fn' says" in warning for warning in told)


def test_a_path_of_a_checkpoint_of_theirs_is_refused(changed: Changed) -> None:
    with pytest.raises(ConfigError, match="its checkpoints are pickles"):
        changed("torch_linear", {"resume_from_checkpoint": True, "resume_option": "path"})


def test_a_loss_scale_is_told_with_the_precision_or_taken_over_without(changed: Changed) -> None:
    mixed = changed("fc_mnist", {"optimizer.loss_scaling_factor": "dynamic"})
    assert any("`precision: fp16-mixed` and `loss_scale: dynamic`" in warning for warning in mixed.warnings)
    plain = changed("fc_mnist", {"model.mixed_precision": False, "optimizer.loss_scaling_factor": 128})
    assert plain.config["loss_scale"] == 128
    with pytest.raises(ConfigError, match="is for float16"):
        changed("fc_mnist", {"model.mixed_precision": False, "optimizer.loss_scaling_factor": "dynamic"})


def test_every_key_is_tried_here() -> None:
    given = {"fc_mnist": FC, "torch_linear": TORCH}
    for reference, name in zip(REFERENCES, FILES, strict=True):
        tried = {row[0] for rows in (given[name], WARNED[name], REFUSED[name]) for row in rows}
        apart = {"resume_option", "train_input.drop_last_batch"}
        assert set(reference.keys) - tried - apart == set()


def test_a_mistake_is_told_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("model:\n  name: fc_mnist\n  hiden_size: 50\nrunconfig:\n  max_steps: many\n")
    with pytest.raises(ConfigError) as refused:
        translate(path)
    first, second, *_ = str(refused.value).splitlines()
    assert first.startswith(f"{path}:3:3: FC-MNIST has no parameter 'model.hiden_size'. Did you mean 'hidden_size'?")
    assert second.startswith(f"{path}:5:3: 'runconfig.max_steps' must be a whole number of at least 1, not 'many'.")


@pytest.mark.parametrize("text", ["", "[1, 2]", "entrypoint: a:B\n"])
def test_a_file_of_no_reference_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"a map of keys to values|no reference that is known"):
        translate(path)


def test_what_is_missing_is_told_at_its_section(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(FILES["fc_mnist"].read_text().replace("    max_steps: 10000\n", ""))
    with pytest.raises(ConfigError) as refused:
        translate(path)
    assert str(refused.value).startswith(f"{path}:24:1: how long to train is missing: 'runconfig.max_steps',")
