"""The parts of a step, captured as pure functions, compute what the trial computes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from typing_extensions import override

from mnist_trials.errors import ProgramError
from mnist_trials.plugin import PARTS
from mnist_trials.programs.graph import Graph
from mnist_trials.training.inspection.inspect import open_session
from mnist_trials.training.inspection.parts import TorchParts
from mnist_trials.training.session import Session
from mnist_trials.training.torch_models.learning import TorchLearning
from tests.training.lab import Lab, Small


class Plain(Small):
    """Without dropout, whose numbers are a program's own."""

    @override
    def build_model(self) -> Any:
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))


class Prepared:
    """A session and a batch of either data set."""

    def __init__(self, lab: Lab, trial: type[Small], **hparams: Any) -> None:
        context = lab.context(hparams)
        self.session: Session = open_session(trial(context), context)
        assert isinstance(self.session.learning, TorchLearning)
        self.learning = self.session.learning
        self.batch = next(self.session.stream.batches())
        self.examined = next(self.session.validation.open(0, 0))
        self.parts = TorchParts(self.session.trial, context, self.learning, self.batch, self.examined)

    def weights(self) -> dict[str, torch.Tensor]:
        return {name: value.detach().clone() for name, value in self.learning.model.named_parameters()}

    def given(self, graph: Graph, **more: torch.Tensor) -> list[torch.Tensor]:
        """What a graph takes, from the session as it is now."""
        named = dict(more)
        for name, weight in self.weights().items():
            named |= {f"weights.{name}": weight, f"state.weights.{name}": weight}
        for name, spec in graph.inputs.items():
            if "/" in name:
                named.setdefault(name, torch.zeros(spec.shape, dtype=spec.dtype))
        return [named[name] for name in graph.inputs]


def run(graph: Graph, given: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    return dict(zip(graph.outputs, graph.module(*given), strict=True))


def test_every_part_is_captured_and_is_called_what_it_is(lab: Lab) -> None:
    graphs = [capture() for capture in Prepared(lab, Plain).parts.all()]
    assert [graph.name for graph in graphs] == list(PARTS)
    assert set(graphs[0].outputs) == {"weights.1.weight", "weights.1.bias", "weights.3.weight", "weights.3.bias"}


@pytest.mark.parametrize(
    "hparams",
    [
        {},
        {"momentum": 0.9, "weight_decay": 0.1, "max_gradient_norm": 0.1},
        {"optimizer": "adam", "max_gradient_value": 0.01},
    ],
)
def test_a_step_and_its_two_halves_give_the_weights_that_training_gives(lab: Lab, hparams: dict[str, Any]) -> None:
    prepared = Prepared(lab, Plain, **hparams)
    images, labels = prepared.batch[0]
    rate = torch.tensor(0.1)
    step, gradients, update = (
        prepared.parts.train_step(),
        prepared.parts.gradients(),
        prepared.parts.optimizer(),
    )
    batch = {"batch_0": images, "batch_1": labels}
    whole = run(step, prepared.given(step, **batch, learning_rate=rate))
    found = run(gradients, prepared.given(gradients, **batch))
    named = {name: value for name, value in found.items() if name.startswith("gradients.")}
    halves = run(update, prepared.given(update, **named, learning_rate=rate))
    loss = prepared.session.trial.train_batch((images, labels), 0, 0)["loss"]
    prepared.learning.stepper.learn(loss, 8, 8)
    assert torch.equal(whole["loss"], loss.detach())
    for name, weight in prepared.weights().items():
        torch.testing.assert_close(whole[f"state.weights.{name}"], weight, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(halves[f"state.weights.{name}"], weight, rtol=1e-6, atol=1e-7)
    assert {name for name in whole if "/" in name} == {name for name in step.inputs if "/" in name}


def test_nothing_that_a_part_takes_is_changed(lab: Lab) -> None:
    prepared = Prepared(lab, Plain, momentum=0.9)
    step = prepared.parts.train_step()
    images, labels = prepared.batch[0]
    given = prepared.given(step, batch_0=images, batch_1=labels, learning_rate=torch.tensor(0.1))
    before = [tensor.clone() for tensor in given]
    run(step, given)
    assert all(map(torch.equal, before, given))


def test_forward_and_evaluation_give_what_model_and_evaluate_batch_give(lab: Lab) -> None:
    prepared = Prepared(lab, Small)
    forward, evaluation = prepared.parts.forward(training=False), prepared.parts.evaluation()
    images, labels = prepared.examined[0]
    model = prepared.learning.model.eval()
    with torch.no_grad():
        logits = model(images)
        metrics = prepared.session.trial.evaluate_batch((images, labels), 0)
    assert torch.equal(run(forward, prepared.given(forward, **{"input.0": images}))["output"], logits)
    found = run(evaluation, prepared.given(evaluation, batch_0=images, batch_1=labels))
    assert {name: value.item() for name, value in found.items()} == {n: v.item() for n, v in metrics.items()}
    drops = prepared.parts.forward(training=True).operations()
    assert any("bernoulli" in name or "dropout" in name for name in drops)


class Parts(Plain):
    @override
    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        images, labels = batch
        return torch.nn.functional.cross_entropy(self.model[1:](self.model[0](images)), labels)


def test_a_model_that_is_only_called_in_parts_has_no_forward_pass_as_a_whole(lab: Lab) -> None:
    prepared = Prepared(lab, Parts)
    with pytest.raises(ProgramError, match=r"never calls self\.model as a whole"):
        prepared.parts.forward(training=True)
    assert list(prepared.parts.loss().outputs) == ["loss"]
