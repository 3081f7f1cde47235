"""The trials of the references, each trained for a moment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from mnist_trials.config import load
from mnist_trials.errors import TrialError
from mnist_trials.mnist import trials
from mnist_trials.mnist.base import MNISTTrial
from mnist_trials.training.context import TrialContext
from mnist_trials.training.trainer import Trainer
from mnist_trials.units import Batch, Epoch

CONFIGS = Path(__file__).parents[2] / "experiment_configs"
MakeContext = Callable[..., TrialContext]
OF_TRIALS = (
    "const.yaml",
    "linear.yaml",
    "linear_cross_entropy.yaml",
    "cnn.yaml",
    "fc_mnist.yaml",
    "fc_mnist_deep.yaml",
    "popxl_mlp.yaml",
)
PARAMETERS = {
    "const.yaml": 1_199_882,
    "linear.yaml": 668_672,
    "linear_cross_entropy.yaml": 668_672,
    "cnn.yaml": 1_199_648,
    "fc_mnist.yaml": 545_810,
    "fc_mnist_deep.yaml": 62_710,
    "popxl_mlp.yaml": 25_450,
}


def trial_of(name: str, make_context: MakeContext, data: Mapping[str, Any], **options: Any) -> MNISTTrial:
    """The trial of a config, with `data` over the config's own data section."""
    config = load(CONFIGS / name).config
    cls = getattr(trials, str(config.entrypoint.trial).partition(":")[2])
    trial = cls(make_context(config.hyperparameters, {**config.data, **data}, **options))
    assert isinstance(trial, MNISTTrial)
    return trial


@pytest.mark.parametrize("name", OF_TRIALS)
def test_a_trial_trains_and_reports_validation_loss_and_accuracy(name: str, make_context: MakeContext) -> None:
    trial = trial_of(name, make_context, {"fake": True})
    result = Trainer(trial, trial.context).fit(max_length=Batch(2))
    assert result.batches == 2
    assert set(result.metrics) == {"validation_loss", "accuracy"}
    assert 0.0 <= result.metrics["accuracy"] <= 1.0
    assert sum(parameter.numel() for parameter in trial.model.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
@pytest.mark.parametrize("name", ["linear.yaml", "popxl_mlp.yaml"])
def test_a_trial_trains_in_every_precision_of_a_cpu(name: str, precision: str, make_context: MakeContext) -> None:
    trial = trial_of(name, make_context, {"fake": True}, precision=precision)
    assert Trainer(trial, trial.context).fit(max_length=Batch(2)).batches == 2


def test_images_in_bfloat16_leave_the_weights_in_fp32(make_context: MakeContext) -> None:
    trial = trial_of("linear.yaml", make_context, {"fake": True})
    Trainer(trial, trial.context).fit(max_length=Batch(1))
    assert {parameter.dtype for parameter in trial.model.parameters()} == {torch.float32}


def test_the_tutorial_is_trained_by_adadelta_unless_another_optimizer_is_named(make_context: MakeContext) -> None:
    hparams = dict(load(CONFIGS / "const.yaml").config.hyperparameters)
    trial = trials.TutorialCNN(make_context(hparams, {"fake": True}))
    assert isinstance(trial.build_optimizer(trial.build_model()), torch.optim.Adadelta)
    trial = trials.TutorialCNN(make_context({**hparams, "optimizer": "sgd"}, {"fake": True}))
    assert isinstance(trial.build_optimizer(trial.build_model()), torch.optim.SGD)


def test_a_schedule_named_in_the_hyperparameters_is_followed(make_context: MakeContext) -> None:
    hparams = {
        **load(CONFIGS / "fc_mnist.yaml").config.hyperparameters,
        "learning_rate": 0.1,
        "lr_schedule": {"name": "exponential", "gamma": 0.5, "per": "batch"},
    }
    trial = trials.FCMNIST(make_context(hparams, {"fake": True}))
    Trainer(trial, trial.context).fit(max_length=Batch(3))
    assert trial.optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * 0.5**3)


def test_the_tutorial_learns_the_bundled_digits(make_context: MakeContext) -> None:
    trial = trial_of("const.yaml", make_context, {"name": "digits"})
    result = Trainer(trial, trial.context).fit(max_length=Epoch(2))
    assert result.metrics["accuracy"] > 0.8


def test_a_hyperparameter_that_is_missing_is_named_with_those_that_are_there(make_context: MakeContext) -> None:
    trial = trials.TutorialCNN(make_context({"n_filter1": 32}, {"fake": True}))
    with pytest.raises(TrialError, match=r"'n_filters1', which it was not given\. Did you mean 'n_filter1'\?"):
        trial.build_model()


def test_an_unknown_loss_is_told_before_any_data_is_read(make_context: MakeContext) -> None:
    hparams = {**load(CONFIGS / "linear.yaml").config.hyperparameters, "loss": "msee"}
    with pytest.raises(TrialError, match=r"No loss is named 'msee'\. Did you mean 'mse'\?"):
        trials.MNISTLinear(make_context(hparams, {"fake": True}))


@pytest.mark.parametrize(
    ("hparams", "sizes"),
    [
        ({"hidden_sizes": [500, 300]}, [500, 300]),
        ({"depth": 3, "hidden_size": 50}, [50, 50, 50]),
        ({"hidden_sizes": [7], "depth": 3, "hidden_size": 50}, [7]),
    ],
)
def test_fc_mnist_takes_sizes_or_a_depth_and_sizes_win(
    hparams: dict[str, Any], sizes: list[int], make_context: MakeContext
) -> None:
    model = trials.FCMNIST(make_context(hparams, {})).build_model()
    linear = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    assert [module.out_features for module in linear] == [*sizes, 10]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_tutorial_reaches_0_98_on_mnist_in_its_epoch(
    seed: int, make_context: MakeContext, mnist_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MNIST_TRIALS_DATA", str(mnist_root))
    trial = trial_of("const.yaml", make_context, {"name": "mnist"}, seed=seed)
    assert Trainer(trial, trial.context).fit(max_length=Epoch(1)).metrics["accuracy"] >= 0.98
