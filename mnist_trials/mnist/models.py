"""The models of the references. Each takes images, [n, 1, 28, 28], and returns logits, [n, 10]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import nn
from typing_extensions import override

from mnist_trials.errors import InvalidHP
from mnist_trials.mnist.activations import ACTIVATIONS
from mnist_trials.mnist.data.idx import CLASSES, SIDE

PIXELS = SIDE * SIDE


@final
class LinearStack(nn.Module):
    """Two hidden layers of `hidden_size`: 784-h-h-10. 668,672 parameters with h = 512 and no bias.

    The layers are `linear_relu_stack.0`, `.2` and `.4`; sharding rules go by these names.
    """

    def __init__(self, hidden_size: int, *, bias: bool, activation: str = "relu") -> None:
        super().__init__()
        self.linear_relu_stack = nn.Sequential(
            nn.Linear(PIXELS, hidden_size, bias=bias),
            ACTIVATIONS[activation](),
            nn.Linear(hidden_size, hidden_size, bias=bias),
            ACTIVATIONS[activation](),
            nn.Linear(hidden_size, CLASSES, bias=bias),
        )

    @override
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.linear_relu_stack(images.flatten(1))
        return logits


@final
class ConvNet(nn.Module):
    """Two convolutions, 2 x 2 max pooling, dropout, a hidden layer, dropout, the output.

    1,199,648 parameters with 32 and 64 channels of 3 x 3, stride 1, a hidden layer of 128 and no bias. The size that
    reaches the hidden layer follows from `kernel_size` and `stride`.

    Raises:
        InvalidHP: the convolutions leave nothing of the image.
    """

    def __init__(
        self,
        channels: tuple[int, int],
        dropouts: tuple[float, float],
        *,
        hidden_size: int = 128,
        kernel_size: int = 3,
        stride: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        first, second = channels
        side = _after_convolution(_after_convolution(SIDE, kernel_size, stride), kernel_size, stride) // 2
        if side < 1:
            raise InvalidHP(f"kernel_size {kernel_size} with stride {stride} leaves nothing of {SIDE} x {SIDE} pixels")
        self.conv1 = nn.Conv2d(1, first, kernel_size, stride, bias=bias)
        self.conv2 = nn.Conv2d(first, second, kernel_size, stride, bias=bias)
        self.pool = nn.MaxPool2d(2)
        self.dropout1 = nn.Dropout(dropouts[0])
        self.fc1 = nn.Linear(second * side * side, hidden_size, bias=bias)
        self.dropout2 = nn.Dropout(dropouts[1])
        self.fc2 = nn.Linear(hidden_size, CLASSES, bias=bias)

    @override
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        # ReLU of the largest of four is the largest of four ReLUs: pooling first gives the same with less work.
        features = torch.relu(self.pool(self.conv2(torch.relu(self.conv1(images)))))
        hidden = torch.relu(self.fc1(self.dropout1(features).flatten(1)))
        logits: torch.Tensor = self.fc2(self.dropout2(hidden))
        return logits


def _after_convolution(side: int, kernel_size: int, stride: int) -> int:
    return max(0, (side - kernel_size) // stride + 1)


def fully_connected(hidden_sizes: Sequence[int], *, dropout: float = 0.0, activation: str = "relu") -> nn.Module:
    """Linear layers with bias, an activation and dropout behind each but the last."""
    layers: list[nn.Module] = [nn.Flatten()]
    width = PIXELS
    for size in hidden_sizes:
        layers += [nn.Linear(width, size), ACTIVATIONS[activation](), nn.Dropout(dropout)]
        width = size
    return nn.Sequential(*layers, nn.Linear(width, CLASSES))


def popxl_mlp(hidden_size: int, *, activation: str = "gelu", std: float = 0.02) -> nn.Module:
    """784-h-10 with the activation on the output too, and every weight and bias drawn from N(0, std).

    25,450 parameters with h = 32. The draws come from torch's generator, which the trial's seed has set.
    """
    model = nn.Sequential(
        nn.Flatten(),
        nn.Linear(PIXELS, hidden_size),
        ACTIVATIONS[activation](),
        nn.Linear(hidden_size, CLASSES),
        ACTIVATIONS[activation](),
    )
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=std)
    return model
