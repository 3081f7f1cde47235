"""Looking into a trial: its layers, its operations, what a step costs, and where in the model an error came from."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy
from typing_extensions import override

import mnist_trials as mt
from mnist_trials.plugin import Inspection
from mnist_trials.training.inspection import inspect_trial
from tests.training.lab import Lab, Small


def inspected(lab: Lab, trial: type[mt.Trial] = Small, **hparams: Any) -> Inspection:
    context = lab.context(hparams)
    return inspect_trial(trial(context), context)


def test_layers_have_their_shapes_and_their_parameters(lab: Lab) -> None:
    found = inspected(lab)
    assert [(layer.name, layer.kind) for layer in found.layers] == [
        ("0", "Flatten"),
        ("1", "Linear"),
        ("2", "ReLU"),
        ("3", "Dropout"),
        ("4", "Linear"),
    ]
    assert [layer.inputs for layer in found.layers] == [[(8, 4, 4)], [(8, 16)], [(8, 8)], [(8, 8)], [(8, 8)]]
    assert [layer.outputs for layer in found.layers] == [[(8, 16)], [(8, 8)], [(8, 8)], [(8, 8)], [(8, 3)]]
    assert [layer.parameters for layer in found.layers] == [0, 136, 0, 0, 27]
    assert (found.parameters, found.trainable) == (163, 163)


def test_flops_are_two_per_multiply_add_forward_and_backward(lab: Lab) -> None:
    found = inspected(lab)
    first, second = 2 * 8 * 16 * 8, 2 * 8 * 8 * 3
    assert found.evaluation.flops == first + second
    # Backward: the gradient of each weight, and of the input of the second layer; nobody wants that of the images.
    assert found.training.flops == (first + second) + (first + second) + second
    assert (found.training.samples, found.evaluation.samples) == (8, 8)


def test_operations_of_the_backward_pass_and_the_update_count(lab: Lab) -> None:
    plain, momentum = inspected(lab), inspected(lab, momentum=0.9)
    assert plain.training.operations["aten::threshold_backward"] == 1
    assert plain.training.operations["aten::nll_loss_backward"] == 1
    assert "aten::threshold_backward" not in plain.evaluation.operations
    assert plain.evaluation.operations["aten::argmax"] == 1
    more = {
        name for name, count in momentum.training.operations.items() if count > plain.training.operations.get(name, 0)
    }
    assert "aten::mul_.Tensor" in more
    assert momentum.training.bytes > plain.training.bytes > plain.evaluation.bytes > 0


def test_a_group_of_batches_is_updated_after_the_one_that_is_traced(lab: Lab) -> None:
    single, group = inspected(lab), inspected(lab, aggregation_frequency=4)
    assert group.training.operations["aten::add_.Tensor"] == single.training.operations["aten::add_.Tensor"]


class Frozen(Small):
    @override
    def build_model(self) -> Any:
        model = super().build_model()
        model[1].requires_grad_(False)
        model.append(torch.nn.Identity()).add_module("spare", torch.nn.Linear(2, 2))
        model.forward = torch.nn.Sequential(*list(model)[:5]).forward
        return model


def test_frozen_parameters_and_layers_that_are_not_called_show(lab: Lab) -> None:
    found = inspected(lab, Frozen)
    assert (found.parameters, found.trainable) == (169, 33)
    layers = {layer.name: layer for layer in found.layers}
    assert (layers["1"].parameters, layers["1"].trainable, layers["1"].calls) == (136, 0, 1)
    assert (layers["spare"].calls, layers["spare"].outputs) == (0, [])


class Wrong(Small):
    @override
    def build_model(self) -> Any:
        first = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 8))
        return torch.nn.ModuleDict({"first": first, "second": torch.nn.Linear(9, 3)})

    @override
    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        images, labels = batch
        return cross_entropy(self.model["second"](self.model["first"](images)), labels)


def test_an_error_in_a_layer_names_it_and_what_it_was_given(lab: Lab) -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied") as raised:
        inspected(lab, Wrong)
    (note,) = raised.value.__notes__
    assert note == (
        "It was raised in layer 'second' (Linear(in_features=9, out_features=3, bias=True)), which was given 8 x 8."
    )


class Manual(Small):
    @override
    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        loss = super().train_batch(batch, epoch_idx, batch_idx)["loss"]
        self.context.backward(loss)
        self.context.step_optimizer(self.optimizer)
        return {"own": loss}


def test_a_trial_that_steps_itself_is_traced_as_it_is(lab: Lab) -> None:
    operations = inspected(lab, Manual).training.operations
    assert operations["aten::nll_loss_backward"] == 1
    assert not any(name.startswith("profiler::") for name in operations)
