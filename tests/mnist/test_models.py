"""The models: sizes, names of modules, first weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mnist_trials.errors import InvalidHP, TrialError
from mnist_trials.mnist.models import ConvNet, LinearStack, fully_connected, popxl_mlp

IMAGES = torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        (LinearStack(512, bias=False), 668_672),
        (ConvNet((32, 64), (0.25, 0.5), bias=False), 1_199_648),
        (ConvNet((32, 64), (0.25, 0.5)), 1_199_882),
        (fully_connected([500, 300]), 545_810),
        (fully_connected([50] * 10), 62_710),
        (popxl_mlp(32), 25_450),
    ],
)
def test_a_model_has_its_parameters_and_gives_ten_logits_per_image(model: nn.Module, parameters: int) -> None:
    assert count(model) == parameters
    assert model(IMAGES).shape == (3, 10)


def test_the_linear_stack_keeps_the_names_that_sharding_goes_by() -> None:
    names = {name for name, _ in LinearStack(8, bias=False).named_parameters()}
    assert names == {f"linear_relu_stack.{index}.weight" for index in (0, 2, 4)}


@pytest.mark.parametrize(("kernel_size", "stride"), [(3, 1), (5, 1), (3, 2), (1, 1), (7, 2)])
def test_the_size_behind_the_convolutions_follows_from_kernel_and_stride(kernel_size: int, stride: int) -> None:
    model = ConvNet((2, 3), (0.0, 0.0), kernel_size=kernel_size, stride=stride)
    assert model(IMAGES).shape == (3, 10)


def test_convolutions_that_leave_nothing_are_hyperparameters_that_make_no_sense() -> None:
    with pytest.raises(InvalidHP, match="kernel_size 15 with stride 1 leaves nothing of 28 x 28"):
        ConvNet((2, 3), (0.0, 0.0), kernel_size=15)


def test_pooling_before_the_activation_changes_nothing() -> None:
    model = ConvNet((2, 3), (0.0, 0.0))
    features = model.pool(torch.relu(model.conv2(torch.relu(model.conv1(IMAGES)))))
    expected = model.fc2(torch.relu(model.fc1(features.flatten(1))))
    assert torch.equal(model(IMAGES), expected)


def test_every_weight_and_bias_of_the_popxl_mlp_is_drawn_from_a_narrow_normal_by_the_seed() -> None:
    torch.manual_seed(5)
    model = popxl_mlp(32)
    for parameter in model.parameters():
        assert 0.005 < float(parameter.detach().std()) < 0.035
    everything = nn.utils.parameters_to_vector(model.parameters()).detach()
    assert float(everything.mean()) == pytest.approx(0.0, abs=0.001)
    assert float(everything.std()) == pytest.approx(0.02, rel=0.05)
    torch.manual_seed(5)
    assert torch.equal(nn.utils.parameters_to_vector(popxl_mlp(32).parameters()), everything)


def test_the_popxl_mlp_ends_in_its_activation() -> None:
    logits = popxl_mlp(32)(IMAGES * 100).detach()
    assert float(logits.min()) > -0.2  # GELU is never below that


def test_an_unknown_activation_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(TrialError, match=r"No activation is named 'rleu'\. Did you mean 'relu'\?"):
        fully_connected([5], activation="rleu")
