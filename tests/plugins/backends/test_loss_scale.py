"""`loss_scale`: none, a number, or found out."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import mnist_trials as mt
from mnist_trials.testing.channel import RecordingChannel
from tests.training.lab import Lab, Small, same

HPARAMS = {"aggregation_frequency": 2, "max_gradient_norm": 0.5, "max_gradient_value": 0.1, "momentum": 0.9}
BATCHES = mt.Batch(9)


def scaler(context: Any) -> Any:
    return context.execution.state_dict()["scaler"]


def stopped_after(batches: int) -> RecordingChannel:
    channel = RecordingChannel()
    channel.stop_at_poll(batches)
    return channel


@pytest.mark.parametrize(
    ("precision", "given", "scale"),
    [
        ("fp32", None, None),
        ("bf16-mixed", None, None),
        ("fp16-mixed", None, 65536.0),
        ("fp16-mixed", "dynamic", 65536.0),
        ("fp16-mixed", "none", None),
        ("fp16-mixed", 1.0, None),
        ("fp16-mixed", 128.0, 128.0),
        ("bf16-mixed", 2.5, 2.5),
        ("fp32", 1024.0, 1024.0),
    ],
)
def test_losses_are_scaled_as_the_config_says(lab: Lab, precision: str, given: Any, scale: float | None) -> None:
    context = lab.context(precision=precision, loss_scale=given)
    weight = torch.ones((), requires_grad=True)
    context.execution.backward(weight * 3)
    assert weight.grad == 3 * (scale or 1)
    assert (scaler(context) or {}).get("scale") == scale


@pytest.mark.parametrize("precision", ["fp32", "bf16-mixed", "bf16-true"])
def test_a_power_of_two_changes_no_bit_of_a_training(lab: Lab, precision: str) -> None:
    plain = lab.fit(Small, lab.context(HPARAMS, precision=precision), max_length=BATCHES)
    scaled = lab.fit(Small, lab.context(HPARAMS, precision=precision, loss_scale=1024.0), max_length=BATCHES)
    assert same(scaled.weights, plain.weights)


def test_a_constant_scale_stays_where_updates_overflow_and_are_left_out(lab: Lab) -> None:
    class Overflowing(Small):
        def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
            result = super().train_batch(batch, epoch_idx, batch_idx)
            return {"loss": result["loss"] * (1e30 if batch_idx == 3 else 1.0)}

    context = lab.context(loss_scale=1e10)
    before = lab.fit(Overflowing, context, max_length=mt.Batch(3))
    overflowed = lab.fit(Overflowing, lab.context(loss_scale=1e10), max_length=mt.Batch(4))
    after = lab.fit(Overflowing, lab.context(loss_scale=1e10), max_length=mt.Batch(5))
    assert same(overflowed.weights, before.weights)
    assert not same(after.weights, before.weights)
    assert scaler(after.context)["scale"] == 1e10


@pytest.mark.parametrize(("precision", "scale"), [("fp32", 512.0), ("fp16-mixed", 512.0), ("fp16-mixed", "dynamic")])
@pytest.mark.parametrize("stop", [4, 5])
def test_a_resumed_training_is_the_undisturbed_one(lab: Lab, precision: str, scale: Any, stop: int) -> None:
    def context(**more: Any) -> Any:
        return lab.context(HPARAMS, precision=precision, loss_scale=scale, **more)

    straight = lab.fit(Small, context(), max_length=BATCHES)
    first = lab.fit(Small, context(channel=stopped_after(stop)), max_length=BATCHES)
    assert first.result.batches == stop
    second = lab.fit(Small, context(checkpoints=[str(first.result.checkpoint)]), max_length=BATCHES)
    assert same(second.weights, straight.weights)
    assert same(scaler(second.context), scaler(straight.context))


def test_a_group_that_was_begun_with_another_scale_is_finished_with_it(lab: Lab) -> None:
    straight = lab.fit(Small, lab.context(HPARAMS, loss_scale=1024.0), max_length=BATCHES)
    first = lab.fit(Small, lab.context(HPARAMS, loss_scale=1024.0, channel=stopped_after(5)), max_length=BATCHES)
    context = lab.context(HPARAMS, loss_scale=64.0, checkpoints=[str(first.result.checkpoint)])
    second = lab.fit(Small, context, max_length=BATCHES)
    assert same(second.weights, straight.weights)
    assert scaler(context)["scale"] == 64.0
