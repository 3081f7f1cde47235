"""Gradients: aggregated by samples, clipped, and stepped by the runtime or by the trial."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

import mnist_trials as mt
from mnist_trials.errors import TrialError
from mnist_trials.events import CheckpointSaved, MetricsReported, Notice
from mnist_trials.plugin import Execution, ExecutionSettings, get_plugins
from mnist_trials.training.torch_models.schedule import Schedules
from mnist_trials.training.torch_models.stepper import Stepper
from tests.training.lab import CLASSES, Lab, Small, same, samples


class Plain(Small):
    """Without dropout, so that a group of batches can be compared with one batch."""

    def build_model(self) -> Any:
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, CLASSES))


def execution() -> Execution:
    backend = get_plugins().find("backend", "cpu").factory({})
    return backend.open(
        ExecutionSettings(slots=backend.slots(None)[:1], precision="fp32", compile=False, deterministic=False, seed=1)
    )


def said(message: str) -> None:
    raise AssertionError(message)


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=9),
    frequency=st.integers(1, 5),
    clip=st.sampled_from([{}, {"max_gradient_norm": 0.05}, {"max_gradient_value": 0.02}]),
)
def test_a_group_of_batches_equals_one_batch_of_all_their_samples(
    sizes: list[int], frequency: int, clip: dict[str, float]
) -> None:
    images, labels = samples(sum(sizes))
    grouped = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, CLASSES)).double()
    whole = copy.deepcopy(grouped)
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9) for model in (grouped, whole)]
    steppers = [
        Stepper(execution(), {"optimizer": optimizer}, Schedules(None), {**clip, "aggregation_frequency": n}, said)
        for optimizer, n in zip(optimizers, (frequency, 1), strict=True)
    ]
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    for end, size in zip(ends, sizes, strict=True):
        part = slice(end - size, end)
        steppers[0].learn(cross_entropy(grouped(images[part].double() / 255), labels[part]), size, size)
    steppers[0].finish_group()
    for first in range(0, len(sizes), frequency):
        part = slice(ends[first] - sizes[first], ends[min(first + frequency, len(sizes)) - 1])
        steppers[1].learn(cross_entropy(whole(images[part].double() / 255), labels[part]), 1, 1)
    assert steppers[0].steps == steppers[1].steps == -(-len(sizes) // frequency)
    for left, right in zip(grouped.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12)


def test_a_short_last_group_of_an_epoch_is_stepped_on_what_it_holds(lab: Lab) -> None:
    steps: list[int] = []

    class Counted(Plain):
        def build_optimizer(self, model: Any) -> Any:
            class Counting(torch.optim.SGD):
                def step(self, closure: Any = None) -> Any:
                    steps.append(1)
                    return super().step(closure)

            return Counting(model.parameters(), lr=0.1)

    lab.fit(Counted, lab.context({"aggregation_frequency": 4}), max_length=mt.Epoch(2))
    assert len(steps) == 2 * 4  # 13 batches are 3 groups of 4 and one of 1
    steps.clear()
    lab.fit(Counted, lab.context({"aggregation_frequency": 4}), max_length=mt.Batch(6))
    assert len(steps) == 2


def test_one_epoch_in_one_group_equals_the_whole_data_set_as_one_batch(lab: Lab) -> None:
    grouped = lab.fit(Plain, lab.context({"aggregation_frequency": 100}), max_length=mt.Epoch(1))
    whole = lab.fit(Plain, lab.context({"global_batch_size": 100}), max_length=mt.Epoch(1))
    for left, right in zip(grouped.weights.values(), whole.weights.values(), strict=True):
        torch.testing.assert_close(left, right)


def test_gradients_are_clipped_by_value_and_by_norm(lab: Lab) -> None:
    start = lab.fit(Plain, lab.context({"learning_rate": 1e-30}), max_length=mt.Batch(1)).weights
    by_norm = lab.fit(Plain, lab.context({"learning_rate": 1.0, "max_gradient_norm": 0.001}), max_length=mt.Batch(1))
    moved = torch.cat([(by_norm.weights[name] - start[name]).flatten() for name in start])
    assert moved.norm().item() == pytest.approx(0.001, rel=1e-3)
    by_value = lab.fit(Plain, lab.context({"learning_rate": 1.0, "max_gradient_value": 0.001}), max_length=mt.Batch(1))
    moved = torch.cat([(by_value.weights[name] - start[name]).flatten() for name in start])
    assert moved.abs().max().item() == pytest.approx(0.001, rel=1e-3)


@pytest.mark.parametrize(
    ("hparams", "named"),
    [
        ({"aggregation_frequency": 0}, "'aggregation_frequency' must be a whole number of at least 1, not 0"),
        ({"aggregation_frequency": 1.5}, "'aggregation_frequency' must be a whole number of at least 1, not 1.5"),
        ({"max_gradient_norm": 0}, "'max_gradient_norm' must be a number above 0, not 0"),
        ({"max_gradient_norm": float("nan")}, "'max_gradient_norm' must be a number above 0, not nan"),
        ({"max_gradient_value": "1"}, "'max_gradient_value' must be a number above 0, not '1'"),
    ],
)
def test_hyperparameters_of_the_step_are_checked(lab: Lab, hparams: dict[str, Any], named: str) -> None:
    with pytest.raises(TrialError, match=named):
        lab.fit(Small, lab.context(hparams))


def test_parameters_added_to_the_optimizer_later_are_cleared_too(lab: Lab) -> None:
    class Unfreezing(Plain):
        def build_model(self) -> Any:
            return torch.nn.ModuleDict({"one": torch.nn.Linear(16, 16), "two": torch.nn.Linear(16, CLASSES)})

        def build_optimizer(self, model: Any) -> Any:
            return torch.optim.SGD(model["two"].parameters(), lr=0.1)

        def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
            if batch_idx == 2:
                self.model["one"].zero_grad()
                self.optimizer.add_param_group({"params": self.model["one"].parameters()})
            if batch_idx > 3:
                assert all(p.grad is None for p in self.model.parameters())
            return cross_entropy(self.logits(batch[0]), batch[1])

        def logits(self, images: torch.Tensor) -> Any:
            return self.model["two"](self.model["one"](images.flatten(1)))

        def evaluate_batch(self, batch: Any, batch_idx: int) -> Any:
            return {"validation_loss": cross_entropy(self.logits(batch[0]), batch[1])}

    lab.fit(Unfreezing)


class Manual(Plain):
    """Does its own backward pass and step."""

    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        loss = super().train_batch(batch, epoch_idx, batch_idx)["loss"]
        self.context.backward(loss)
        self.context.step_optimizer(self.optimizer)
        assert all(p.grad is None for p in self.model.parameters())
        return {"loss": loss}


def test_a_trial_that_steps_itself_is_left_alone_and_trains_the_same(lab: Lab) -> None:
    ours, own = lab.fit(Plain), lab.fit(Manual)
    assert all(torch.equal(ours.weights[name], own.weights[name]) for name in ours.weights)


def test_clipping_hparams_of_a_manual_trial_are_said_to_be_without_effect(lab: Lab) -> None:
    run = lab.fit(Manual, lab.context({"max_gradient_norm": 1.0, "aggregation_frequency": 2}))
    messages = [e.message for e in run.channel.of(Notice)]
    assert messages == [
        "This trial steps its optimizers itself, so the runtime does nothing with aggregation_frequency, "
        "max_gradient_norm."
    ]


def test_a_manual_trial_may_clip_keep_gradients_and_return_nothing(lab: Lab) -> None:
    seen: list[float] = []

    def clip(parameters: Any) -> None:
        seen.append(float(torch.nn.utils.clip_grad_norm_(parameters, 0.01)))

    class Clipping(Plain):
        def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
            loss = super().train_batch(batch, epoch_idx, batch_idx)["loss"]
            self.context.backward(loss)
            self.context.step_optimizer(self.optimizer, clip_grads=clip, auto_zero_grads=False)
            assert all(p.grad is not None for p in self.model.parameters())
            self.optimizer.zero_grad()

    run = lab.fit(Clipping)
    assert len(seen) == 10
    assert run.channel.of(MetricsReported)[0].metrics == {}


class Adversaries(Small):
    """Two models and two optimizers, stepped by the trial."""

    def build_model(self) -> Any:
        return {"maker": torch.nn.Linear(4, 16), "judge": torch.nn.Linear(16, 1)}

    def build_optimizer(self, model: Any) -> Any:
        return {name: torch.optim.Adam(model[name].parameters(), lr=0.01) for name in model}

    def build_lr_scheduler(self, optimizer: Any) -> Any:
        make = torch.optim.lr_scheduler.ExponentialLR
        return {name: mt.LRSchedule(make(o, 0.9), per="optimizer_step") for name, o in optimizer.items()}

    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        made = self.model["maker"](torch.randn(8, 4))
        judged = self.model["judge"](batch[0].flatten(1)).mean() - self.model["judge"](made.detach()).mean()
        self.context.backward(judged)
        self.context.step_optimizer(self.optimizer["judge"])
        fooled = self.model["judge"](made).mean()
        self.context.backward(fooled)
        self.context.step_optimizer(self.optimizer["maker"])
        return {"judged": judged, "fooled": fooled}

    def evaluate_batch(self, batch: Any, batch_idx: int) -> Any:
        return {"validation_loss": self.model["judge"](batch[0].flatten(1)).mean()}


def test_named_models_and_optimizers_train_and_resume(lab: Lab) -> None:
    straight = lab.fit(Adversaries)
    first = lab.fit(Adversaries, max_length=mt.Batch(6))
    second = lab.fit(Adversaries, lab.context(checkpoints=[str(first.result.checkpoint)]))
    assert set(straight.weights) == {"maker.weight", "maker.bias", "judge.weight", "judge.bias"}
    assert all(torch.equal(straight.weights[name], second.weights[name]) for name in straight.weights)
    rates = [o.param_groups[0]["lr"] for o in straight.trial.optimizer.values()]
    assert rates == pytest.approx([0.01 * 0.9**10] * 2)


def test_several_optimizers_that_nobody_steps_are_an_error(lab: Lab) -> None:
    class Forgotten(Adversaries):
        def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
            return self.model["judge"](batch[0].flatten(1)).mean()

    with pytest.raises(TrialError, match=r"2 optimizers \(maker, judge\).*step_optimizer"):
        lab.fit(Forgotten)


def test_stepping_before_fit_is_an_error(lab: Lab) -> None:
    context = lab.context()
    with pytest.raises(TrialError, match="nothing to step yet"):
        context.backward(torch.tensor(1.0))


def test_parameters_added_to_the_optimizer_later_are_clipped_from_their_first_step_on(lab: Lab) -> None:
    class Unfreezing(Plain):
        def build_model(self) -> Any:
            one, two = torch.nn.Linear(16, 16), torch.nn.Linear(16, CLASSES)
            return torch.nn.Sequential(torch.nn.Flatten(), one.requires_grad_(False), two)

        def build_optimizer(self, model: Any) -> Any:
            return torch.optim.SGD(model[2].parameters(), lr=1.0)

        def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
            if batch_idx == 2:
                self.before = self.model[1].weight.detach().clone()
                self.optimizer.add_param_group({"params": self.model[1].requires_grad_(True).parameters()})
            return super().train_batch(batch, epoch_idx, batch_idx)

    run = lab.fit(Unfreezing, lab.context({"max_gradient_norm": 1e-4}), max_length=mt.Batch(3))
    moved = run.trial.model[1].weight - run.trial.before
    assert 0 < moved.norm() < 1.1e-4


class Bag(Small):
    """An embedding with sparse gradients."""

    def build_model(self) -> Any:
        return {"table": torch.nn.Embedding(256, 4, sparse=True), "head": torch.nn.Linear(4, CLASSES)}

    def logits(self, images: torch.Tensor) -> Any:
        return self.model["head"](self.model["table"]((images * 255).long().flatten(1)).mean(1))

    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        return cross_entropy(self.logits(batch[0]), batch[1])

    def evaluate_batch(self, batch: Any, batch_idx: int) -> Any:
        return {"validation_loss": cross_entropy(self.logits(batch[0]), batch[1])}


@pytest.mark.parametrize("aggregation", [1, 3])
def test_sparse_gradients_are_stepped_and_resumed(lab: Lab, aggregation: int) -> None:
    hparams = {"aggregation_frequency": aggregation}
    straight = lab.fit(Bag, lab.context(hparams), max_length=mt.Batch(16), checkpoint_period=mt.Batch(4))
    saved = straight.channel.of(CheckpointSaved)[0].checkpoint
    assert saved.batches == 4  # in the middle of a group of 3
    resumed = lab.fit(Bag, lab.context(hparams, checkpoints=[saved.uuid]), max_length=mt.Batch(16))
    assert same(resumed.weights, straight.weights)


class LBFGS(Plain):
    def build_optimizer(self, model: Any) -> Any:
        return torch.optim.LBFGS(model.parameters(), max_iter=3)


def test_an_optimizer_that_wants_a_closure_is_refused_with_what_to_do(lab: Lab) -> None:
    with pytest.raises(TrialError, match=r"LBFGS computes the loss several times.*self\.optimizer\.step\(closure\)"):
        lab.fit(LBFGS)


def test_a_manual_trial_may_use_an_optimizer_that_wants_a_closure(lab: Lab) -> None:
    class Closed(LBFGS):
        def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
            def closure() -> Any:
                self.optimizer.zero_grad()
                loss = cross_entropy(self.model(batch[0]), batch[1])
                self.context.backward(loss)
                return loss

            return self.optimizer.step(closure)

    straight = lab.fit(Closed, max_length=mt.Batch(6), checkpoint_period=mt.Batch(4))
    saved = straight.channel.of(CheckpointSaved)[0].checkpoint
    resumed = lab.fit(Closed, lab.context(checkpoints=[saved.uuid]), max_length=mt.Batch(6))
    assert same(resumed.weights, straight.weights)
