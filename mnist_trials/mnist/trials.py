"""The trials of the references, to be named as an entrypoint: `mnist_trials.mnist.trials:TutorialCNN`.

Beside what is said at each, all take the hyperparameters that `MNISTTrial` describes. docs/references.md maps the
parameters of each reference to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, final

import torch
from torch import nn
from typing_extensions import override

from mnist_trials.errors import InvalidHP
from mnist_trials.mnist.base import MNISTTrial
from mnist_trials.mnist.models import ConvNet, LinearStack, fully_connected, popxl_mlp
from mnist_trials.plugin import Rules

_BY_OUTPUTS: Final = ("tensor", None)  # of the weight of a linear layer, [out, in]
_BY_INPUTS: Final = (None, "tensor")
_OF_CONV_NET: Final[Rules] = {r"fc1\.weight": _BY_OUTPUTS, r"fc2\.weight": _BY_INPUTS}  # convolutions stay whole


@final
class TutorialCNN(MNISTTrial):
    """The network of Determined's MNIST tutorial.

    Hyperparameters: `n_filters1`, `n_filters2`, `dropout1`, `dropout2`. The optimizer is Adadelta unless the
    hyperparameter `optimizer` names another.
    """

    @override
    def build_model(self) -> nn.Module:
        hparams = self.context.hparams
        channels = (hparams["n_filters1"], hparams["n_filters2"])
        return _laid_out(ConvNet(channels, (hparams["dropout1"], hparams["dropout2"])), self.context.device)

    @override
    def sharding_rules(self) -> Rules:
        return _OF_CONV_NET

    @override
    def build_optimizer(self, model: Any) -> Any:
        if "optimizer" in self.context.hparams:
            return super().build_optimizer(model)
        return torch.optim.Adadelta(model.parameters(), lr=self.context.hparams["learning_rate"])


@final
class MNISTLinear(MNISTTrial):
    """The linear trial of the torch reference: 784-h-h-10.

    Hyperparameters: `hidden_size`, `bias`; `activation` (relu by default).
    """

    @override
    def build_model(self) -> nn.Module:
        hparams = self.context.hparams
        return LinearStack(hparams["hidden_size"], bias=hparams["bias"], activation=hparams.get("activation", "relu"))

    @override
    def sharding_rules(self) -> Rules:
        """Row, column, row: nothing is exchanged between the last two layers."""
        return {
            r"linear_relu_stack\.0\.weight": _BY_INPUTS,
            r"linear_relu_stack\.2\.weight": _BY_OUTPUTS,
            r"linear_relu_stack\.4\.weight": _BY_INPUTS,
        }


@final
class MNISTCNN(MNISTTrial):
    """The convolutional trial of the torch reference.

    Hyperparameters: `conv1_channels`, `conv2_channels`, `hidden_size`, `dropout1`, `dropout2`, `kernel_size`, `stride`,
    `bias`.
    """

    @override
    def build_model(self) -> nn.Module:
        hparams = self.context.hparams
        model = ConvNet(
            (hparams["conv1_channels"], hparams["conv2_channels"]),
            (hparams["dropout1"], hparams["dropout2"]),
            hidden_size=hparams["hidden_size"],
            kernel_size=hparams["kernel_size"],
            stride=hparams["stride"],
            bias=hparams["bias"],
        )
        return _laid_out(model, self.context.device)

    @override
    def sharding_rules(self) -> Rules:
        return _OF_CONV_NET


@final
class FCMNIST(MNISTTrial):
    """FC-MNIST: fully connected layers with bias.

    Hyperparameters: `hidden_sizes`, or else `depth` layers of `hidden_size`; `dropout` (0 by default), `activation`
    (relu by default).
    """

    @override
    def build_model(self) -> nn.Module:
        hparams = self.context.hparams
        return fully_connected(
            self._hidden_sizes(),
            dropout=hparams.get("dropout", 0.0),
            activation=hparams.get("activation", "relu"),
        )

    @override
    def sharding_rules(self) -> Rules:
        last = len(self._hidden_sizes()) * 3 + 1  # a hidden layer is three modules, after one that flattens
        return {rf"(?!{last}\.)\d+\.weight": _BY_OUTPUTS, rf"{last}\.weight": _BY_INPUTS}

    def _hidden_sizes(self) -> Sequence[int]:
        hparams = self.context.hparams
        sizes = hparams.get("hidden_sizes")
        if sizes is None:
            sizes = [hparams["hidden_size"]] * hparams["depth"]
        if not isinstance(sizes, list | tuple) or not sizes or not all(isinstance(size, int) for size in sizes):
            raise InvalidHP(f"hidden_sizes is a list of whole numbers, such as [500, 300], not {sizes!r}")
        return sizes


@final
class PopXLMLP(MNISTTrial):
    """The PopXL program's network: 784-h-10, an activation on the output too, weights and biases from N(0, 0.02).

    Hyperparameters: `hidden_size`; `activation` (gelu by default).
    """

    @override
    def build_model(self) -> nn.Module:
        hparams = self.context.hparams
        return popxl_mlp(hparams["hidden_size"], activation=hparams.get("activation", "gelu"))

    @override
    def sharding_rules(self) -> Rules:
        return {r"1\.weight": _BY_OUTPUTS, r"3\.weight": _BY_INPUTS}


def _laid_out(model: nn.Module, device: torch.device) -> nn.Module:
    """`model` with its weights in the order that is fastest on `device`: channels last on a CPU, by a fifth."""
    if device.type == "cpu":
        nn.utils.convert_conv2d_weight_memory_format(model, torch.channels_last)
    return model
