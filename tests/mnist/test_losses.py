"""Losses by name, with both kinds of targets."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mnist_trials.errors import TrialError
from mnist_trials.mnist.losses import LOSSES, as_classes

LOGITS = torch.randn(6, 10, generator=torch.Generator().manual_seed(0))
CLASSES = torch.tensor([3, 1, 4, 1, 5, 9])
VECTORS = nn.functional.one_hot(CLASSES, 10).float()


@pytest.mark.parametrize("name", ["mse", "cross_entropy", "nll"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_class_numbers_and_one_hot_vectors_give_the_same_loss(name: str, dtype: torch.dtype) -> None:
    torch.testing.assert_close(LOSSES[name](LOGITS, VECTORS.to(dtype)), LOSSES[name](LOGITS, CLASSES))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mse", nn.MSELoss()(LOGITS, VECTORS)),
        ("torch.nn.MSELoss", nn.MSELoss()(LOGITS, VECTORS)),
        ("cross_entropy", nn.CrossEntropyLoss()(LOGITS, CLASSES)),
        ("torch.nn.CrossEntropyLoss", nn.CrossEntropyLoss()(LOGITS, CLASSES)),
        ("nll", nn.NLLLoss()(LOGITS.log_softmax(1), CLASSES)),
        ("torch.nn.NLLLoss", nn.NLLLoss()(LOGITS.log_softmax(1), CLASSES)),
    ],
)
def test_a_loss_is_what_torch_calls_by_that_name(name: str, expected: torch.Tensor) -> None:
    torch.testing.assert_close(LOSSES[name](LOGITS, CLASSES), expected)


def test_a_loss_has_a_gradient_in_the_logits_alone() -> None:
    for name in LOSSES:
        logits = LOGITS.clone().requires_grad_()
        LOSSES[name](logits, CLASSES).backward()  # type: ignore[no-untyped-call]
        assert logits.grad is not None
        assert float(logits.grad.abs().sum()) > 0


def test_class_numbers_are_read_from_either_kind_of_target() -> None:
    assert torch.equal(as_classes(VECTORS), CLASSES)
    assert torch.equal(as_classes(CLASSES), CLASSES)


def test_an_unknown_loss_is_refused_with_the_nearest_and_all_names() -> None:
    with pytest.raises(TrialError, match=r"No loss is named 'cross_entrpy'\. Did you mean 'cross_entropy'\?.*mse"):
        LOSSES["cross_entrpy"]


def test_a_name_is_never_evaluated() -> None:
    with pytest.raises(TrialError, match="No loss is named"):
        LOSSES["__import__('os').getcwd()"]
