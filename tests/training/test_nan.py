"""A loss that is not finite is named exactly, and never gets into a checkpoint."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import mnist_trials as mt
from mnist_trials.errors import NonFiniteLoss
from mnist_trials.events import CheckpointSaved, MetricsReported, Notice
from mnist_trials.testing.channel import RecordingChannel
from tests.training.lab import Lab, Small


def config(on_nan: str) -> dict[str, Any]:
    return {"searcher": {"metric": "validation_loss"}, "on_nan": on_nan}


class Exploding(Small):
    """Its loss is not finite in one batch."""

    at = 17
    value = float("nan")

    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        loss = super().train_batch(batch, epoch_idx, batch_idx)["loss"]
        return {"loss": loss * self.value if batch_idx == self.at else loss}


class Infinite(Exploding):
    value = float("inf")


def failed(lab: Lab, trial: type[mt.Trial], context: Any, **arguments: Any) -> tuple[str, RecordingChannel]:
    with pytest.raises(NonFiniteLoss) as caught:
        lab.fit(trial, context, **arguments)
    return str(caught.value), context.channel


@pytest.mark.parametrize("period", [1, 5, 1000])
@pytest.mark.parametrize(("trial", "value"), [(Exploding, "nan"), (Infinite, "inf")])
def test_stop_names_epoch_batch_and_step_whenever_it_looks(
    lab: Lab, trial: type[mt.Trial], value: str, period: int
) -> None:
    text, channel = failed(
        lab,
        trial,
        lab.context({"aggregation_frequency": 2}, config("stop")),
        max_length=mt.Batch(40),
        reporting_period=mt.Batch(period),
    )
    # 13 batches make an epoch and 7 steps; batch 17 is the fifth of the second epoch
    assert f"loss became {value} in epoch_idx 1, batch_idx 17, optimizer step 9" in text
    assert channel.of(CheckpointSaved) == []


def test_stop_is_what_happens_by_default(lab: Lab) -> None:
    failed(lab, Exploding, lab.context(), max_length=mt.Batch(40))


@pytest.mark.parametrize("at", [4, 9])
def test_no_checkpoint_holds_what_came_of_it(lab: Lab, at: int) -> None:
    trial = type("At", (Exploding,), {"at": at})
    _, channel = failed(
        lab, trial, lab.context(config=config("stop")), checkpoint_period=mt.Batch(3), reporting_period=mt.Batch(1000)
    )
    assert all(e.checkpoint.batches <= at for e in channel.of(CheckpointSaved))
    for event in channel.of(CheckpointSaved):
        assert all(value.isfinite().all() for value in lab.read(event.checkpoint.uuid).model.values())


def test_a_stop_request_does_not_save_a_bad_state_either(lab: Lab) -> None:
    channel = RecordingChannel()
    channel.stop_at_poll(20)
    failed(lab, Exploding, lab.context(config=config("stop"), channel=channel), max_length=mt.Batch(40))


def test_a_parameter_that_is_not_finite_is_found_though_the_loss_still_was(lab: Lab) -> None:
    class Overflowing(Small):
        def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
            loss = super().train_batch(batch, epoch_idx, batch_idx)["loss"]
            if batch_idx == 9:
                loss.register_hook(lambda gradient: gradient * float("nan"))
            return loss

    text, _ = failed(lab, Overflowing, lab.context(config=config("stop")), checkpoint_policy="none")
    assert "The parameter '1.weight' is not finite after 10 batches" in text


def test_skip_leaves_the_batch_out_and_says_so(lab: Lab) -> None:
    run = lab.fit(Exploding, lab.context(config=config("skip")), max_length=mt.Batch(20), reporting_period=mt.Batch(20))
    assert all(value.isfinite().all() for value in run.weights.values())
    assert run.channel.of(MetricsReported)[0].metrics["loss"] is not None
    assert [e.message for e in run.channel.of(Notice)] == [
        "1 batches were left out because their loss was not finite, the first in epoch_idx 1, batch_idx 17, "
        "optimizer step 17 (all counted from 0)."
    ]


def test_skip_inside_a_group_averages_over_the_rest(lab: Lab) -> None:
    context = lab.context({"aggregation_frequency": 4}, config("skip"))
    run = lab.fit(Exploding, context, max_length=mt.Batch(26))
    assert all(value.isfinite().all() for value in run.weights.values())


def test_warn_says_so_and_goes_on(lab: Lab) -> None:
    run = lab.fit(Exploding, lab.context(config=config("warn")), max_length=mt.Batch(20))
    messages = [e.message for e in run.channel.of(Notice)]
    assert messages[0].startswith("The loss became nan in epoch_idx 1, batch_idx 17")
    assert len(messages) == 1
    assert run.result.batches == 20
    assert run.channel.of(MetricsReported)[0].metrics == {"loss": None}


def test_a_metric_of_a_trial_that_steps_itself_is_watched_too(lab: Lab) -> None:
    class Own(Small):
        def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
            loss = super().train_batch(batch, epoch_idx, batch_idx)["loss"]
            self.context.backward(loss)
            self.context.step_optimizer(self.optimizer)
            return {"cost": loss * (float("nan") if batch_idx == 5 else 1.0)}

    text, _ = failed(lab, Own, lab.context())
    assert "The training metric 'cost' became nan in epoch_idx 0, batch_idx 5." in text


def test_the_batch_is_exact_after_a_resume_inside_a_reporting_period(lab: Lab) -> None:
    channel = RecordingChannel()
    channel.stop_at_poll(11)
    arguments: dict[str, Any] = {"max_length": mt.Batch(40), "reporting_period": mt.Batch(1000)}
    first = lab.fit(Exploding, lab.context(channel=channel), **arguments)
    text, _ = failed(lab, Exploding, lab.context(checkpoints=[str(first.result.checkpoint)]), **arguments)
    assert "batch_idx 17, optimizer step 17" in text
    assert torch.isfinite(next(iter(first.weights.values()))).all()
