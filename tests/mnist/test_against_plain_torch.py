"""The configs of the torch reference on the bundled digits, beside a plain PyTorch loop from the same weights."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from mnist_trials.checkpoint import read_checkpoint
from mnist_trials.experiment import api
from mnist_trials.mnist.data.digits import read_digits
from mnist_trials.store import open_reader

CONFIGS = Path(__file__).parents[2] / "experiment_configs"
EPOCHS = 3


class PlainCNN(nn.Module):
    """The reference's network in the order in which it is drawn: the activation before the pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, bias=False)
        self.conv2 = nn.Conv2d(32, 64, 3, bias=False)
        self.fc1 = nn.Linear(9216, 128, bias=False)
        self.fc2 = nn.Linear(128, 10, bias=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = functional.max_pool2d(functional.relu(self.conv2(functional.relu(self.conv1(images)))), 2)
        hidden = functional.relu(self.fc1(functional.dropout(hidden, 0.25, self.training).flatten(1)))
        return self.fc2(functional.dropout(hidden, 0.5, self.training))


class PlainLinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        sizes = (784, 512, 512, 10)
        layers: list[nn.Module] = [nn.Linear(a, b, bias=False) for a, b in pairwise(sizes)]
        self.linear_relu_stack = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.linear_relu_stack(images.flatten(1))


def one_hot_mse(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return functional.mse_loss(logits, functional.one_hot(labels, 10).float())


def trained(home: Path, config: str, rate: float) -> tuple[list[Any], dict[str, torch.Tensor]]:
    """What a short training of a shipped config reported, and the weights that it began with."""
    changes = [
        f"searcher.max_length={{epochs: {EPOCHS}}}",
        f"hyperparameters.learning_rate={rate}",
        "data.name=digits",
        "perform_initial_validation=true",
        "save_initial_checkpoint=true",
        "checkpoint_storage.save_trial_latest=100",
    ]
    number = api.submit(CONFIGS / config, home=home, slots=1, overrides=changes, launcher="inline")
    assert api.run(number, home=home)["state"] == "COMPLETED"
    with open_reader(home) as reader:
        reported = [(row.kind, row.batches, row.metrics) for row in reader.metrics(number, 1)]
        (first,) = (row for row in reader.checkpoints(number) if row.batches == 0)
    return reported, dict(read_checkpoint(Path(first.location), weights_only=True)[1].model)


def plain_loss(model: nn.Module, loss: Any, rate: float) -> float:
    """The validation loss after a plain loop with settings and data of `trained`, in an order of its own."""
    (images, labels), (held_out, truth) = (
        ((part.images.float() / 255 - 0.1307) / 0.3081, part.labels) for part in read_digits()
    )
    torch.manual_seed(5)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(images)).split(256):
            optimizer.zero_grad()
            loss(model(images[rows]), labels[rows]).backward()
            optimizer.step()
    with torch.no_grad():
        return float(loss(model.eval()(held_out), truth))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "model", "loss", "rate"),  # the rate of the configs is too small for a few batches
    [
        ("linear.yaml", PlainLinear, one_hot_mse, 0.1),
        pytest.param("cnn.yaml", PlainCNN, functional.cross_entropy, 0.03, marks=pytest.mark.slow),
    ],
)
def test_a_config_trains_as_plain_torch_does_and_twice_alike(
    tmp_path: Path, config: str, model: type[nn.Module], loss: Any, rate: float
) -> None:
    reported, weights = trained(tmp_path / "home", config, rate)
    plain = model()
    plain.load_state_dict(weights)
    ours = [metrics["validation_loss"] for kind, _, metrics in reported if kind == "validation"]
    assert ours[-1] < 0.9 * ours[0]
    assert plain_loss(plain, loss, rate) == pytest.approx(ours[-1], rel=0.05)  # another order: 1.5 %
    assert trained(tmp_path / "home", config, rate)[0] == reported
