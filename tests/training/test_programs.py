from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy
from typing_extensions import override

import mnist_trials as mt
from mnist_trials.errors import ProgramError, TrialError
from mnist_trials.events import CheckpointSaved, Notice
from tests.training.lab import SEARCHED, Lab, Run, Small, same, samples, unit

PROGRAM = {**SEARCHED, "compile": "program"}
OPTIMIZERS: list[dict[str, Any]] = [
    {"optimizer": "sgd"},
    {"optimizer": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    {"optimizer": "adadelta", "learning_rate": 1.0},
    {"optimizer": "adagrad"},
    {"optimizer": "adam", "learning_rate": 0.01, "amsgrad": True},
    {"optimizer": "adamax", "learning_rate": 0.01},
    {"optimizer": "adamw", "learning_rate": 0.01},
    {"optimizer": "asgd"},
    {"optimizer": "nadam", "learning_rate": 0.01},
    {"optimizer": "radam", "learning_rate": 0.01},
    {"optimizer": "rmsprop", "learning_rate": 0.001, "momentum": 0.9, "centered": True},
    {"optimizer": "rprop", "learning_rate": 0.01},
]


@pytest.fixture(autouse=True)
def no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """Programs run as they were captured: what compiling makes of them is tested elsewhere."""
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setenv("MNIST_TRIALS_HOME", str(tmp_path / "home"))


class Scheduled(Small):
    @override
    def build_lr_scheduler(self, optimizer: Any) -> Any:
        per_step = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
        return mt.LRSchedule(per_step, per="optimizer_step")


class Normed(Small):
    """With buffers that every batch changes."""

    @override
    def build_model(self) -> Any:
        return torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(16, 8), torch.nn.BatchNorm1d(8), torch.nn.ReLU(), torch.nn.Linear(8, 3)
        )


def both(
    lab: Lab, trial: type[mt.Trial], hparams: Mapping[str, Any] | None = None, batches: int = 20, **options: Any
) -> tuple[Run, Run]:
    """The same training eagerly and by programs. An epoch is 13 batches, the last of 4 samples."""
    eager = lab.fit(trial, lab.context(hparams, **options), max_length=mt.Batch(batches))
    program = lab.fit(trial, lab.context(hparams, PROGRAM, **options), max_length=mt.Batch(batches))
    return eager, program


def apart(eager: Run, program: Run) -> float:
    """How far the weights are from each other."""
    return max(float((eager.weights[name] - w).abs().max()) for name, w in program.weights.items())


def notices(run: Run) -> list[str]:
    return [event.message for event in run.channel.events if isinstance(event, Notice)]


@pytest.mark.parametrize("hparams", OPTIMIZERS, ids=lambda h: h["optimizer"])
def test_a_program_learns_what_the_optimizer_learns_without_it(lab: Lab, hparams: dict[str, Any]) -> None:
    eager, program = both(lab, Small, hparams)
    assert apart(eager, program) < 1e-6
    assert program.result.metrics == pytest.approx(eager.result.metrics, abs=1e-6)


def test_one_program_is_made_for_each_shape_and_the_record_says_what_became_of_it(lab: Lab) -> None:
    _, program = both(lab, Small)
    told = [text for text in notices(program) if text.startswith("Program ")]
    assert [text.split("'")[1] for text in told] == ["train", "train", "evaluate", "evaluate"]
    assert all("not compiled" in text and "no-such-compiler" in text for text in told)


@pytest.mark.parametrize(
    "hparams",
    [
        {"max_gradient_norm": 0.1},
        {"max_gradient_value": 0.01},
        {"max_gradient_norm": 0.05, "max_gradient_value": 0.02, "aggregation_frequency": 2},
        {"aggregation_frequency": 3},
        {"aggregation_frequency": 3, "optimizer": "adam", "learning_rate": 0.01},
    ],
    ids=str,
)
def test_clipping_and_aggregation_are_in_the_program(lab: Lab, hparams: dict[str, Any]) -> None:
    eager, program = both(lab, Small, hparams)
    assert apart(eager, program) < 1e-6
    assert any("'train.update'" in text for text in notices(program)) == ("aggregation_frequency" in hparams)


@pytest.mark.parametrize("hparams", [{}, {"aggregation_frequency": 2}], ids=str)
def test_a_schedule_changes_the_rate_and_no_program(lab: Lab, hparams: dict[str, Any]) -> None:
    eager, program = both(lab, Scheduled, hparams)
    assert apart(eager, program) < 1e-6
    names = [text.split("'")[1] for text in notices(program) if text.startswith("Program ")]
    assert len(names) == len(set(names)) + 2  # the last batches of training and validation are shorter


def test_buffers_are_kept_up(lab: Lab) -> None:
    eager, program = both(lab, Normed)
    assert int(program.weights["2.num_batches_tracked"]) == 20
    assert apart(eager, program) < 1e-6


@pytest.mark.parametrize(("precision", "tolerance"), [("bf16-mixed", 2e-3), ("bf16-true", 2e-2)])
def test_precisions_are_in_the_program(lab: Lab, precision: str, tolerance: float) -> None:
    eager, program = both(lab, Small, precision=precision)
    assert {w.dtype for w in program.weights.values()} == {w.dtype for w in eager.weights.values()}
    assert apart(eager, program) < tolerance
    assert not torch.is_autocast_enabled("cpu")


def test_a_scaled_loss_leaves_the_update_to_the_runtime(lab: Lab) -> None:
    from mnist_trials.config import LossScale

    eager, program = both(lab, Small, {"max_gradient_norm": 0.5}, loss_scale=64.0)
    assert isinstance(64.0, LossScale)
    assert apart(eager, program) < 1e-6
    assert not any("update" in text for text in notices(program))


@pytest.mark.parametrize(
    "hparams",
    [{"optimizer": "adam", "learning_rate": 0.01}, {"momentum": 0.9, "aggregation_frequency": 3}],
    ids=["whole", "in a group"],
)
def test_a_resumed_training_is_the_same_to_the_last_bit(lab: Lab, hparams: dict[str, Any]) -> None:
    def context(**more: Any) -> Any:
        return lab.context(hparams, PROGRAM, **more)

    undisturbed = lab.fit(Scheduled, context(), max_length=mt.Batch(20))
    first = lab.fit(Scheduled, context(), max_length=mt.Batch(20), checkpoint_period=mt.Batch(7))
    saved = next(event for event in first.channel.events if isinstance(event, CheckpointSaved))
    assert saved.checkpoint.batches == 7
    resumed = lab.fit(Scheduled, context(checkpoints=[saved.checkpoint.uuid]), max_length=mt.Batch(20))
    assert same(undisturbed.weights, resumed.weights)
    assert (
        undisturbed.trial.optimizer.state_dict()["param_groups"] == resumed.trial.optimizer.state_dict()["param_groups"]
    )
    assert undisturbed.result.metrics == resumed.result.metrics


def test_a_checkpoint_does_not_show_what_wrote_it(lab: Lab) -> None:
    hparams = {"optimizer": "adam", "learning_rate": 0.01}
    first = lab.fit(Small, lab.context(hparams, PROGRAM), max_length=mt.Batch(9))
    assert first.result.checkpoint is not None
    ends = [
        lab.fit(Small, lab.context(hparams, config, checkpoints=[first.result.checkpoint]), max_length=mt.Batch(15))
        for config in (SEARCHED, PROGRAM)
    ]
    assert apart(*ends) < 1e-6


def refused(lab: Lab, trial: type[mt.Trial], hparams: Mapping[str, Any] | None = None, **config: Any) -> str:
    with pytest.raises(TrialError) as caught:
        lab.fit(trial, lab.context(hparams, {**PROGRAM, **config}))
    assert isinstance(caught.value, ProgramError)
    return str(caught.value)


class Looking(Small):
    @override
    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        loss = super().train_batch(batch, epoch_idx, batch_idx)["loss"]
        return {"loss": loss, "twice": loss.item() * 2}  # the line


def test_a_look_at_a_value_is_refused_and_the_line_named(lab: Lab) -> None:
    text = refused(lab, Looking)
    assert "test_programs.py:" in text
    assert '"twice": loss.item() * 2}  # the line' in text
    assert "compile: true" in text


class Stepping(Small):
    @override
    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        self.context.backward(super().train_batch(batch, epoch_idx, batch_idx)["loss"])
        self.context.step_optimizer(self.optimizer)


class Counting(Small):
    seen = 0

    def __init__(self, context: Any) -> None:
        super().__init__(context)
        self.count = 0

    @override
    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        self.count += 1
        return super().train_batch(batch, epoch_idx, batch_idx)


class WarmingUp(Small):
    @override
    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        loss = super().train_batch(batch, epoch_idx, batch_idx)["loss"]
        return loss * min(1.0, batch_idx / 10)


class Gambling(Small):
    @override
    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        import random

        return super().train_batch(batch, epoch_idx, batch_idx)["loss"] * (1 + random.random())


class Telling(Small):
    @override
    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        metrics = super().train_batch(batch, epoch_idx, batch_idx)
        return {**metrics, "rate": self.optimizer.param_groups[0]["lr"]}


@pytest.mark.parametrize(
    ("trial", "hparams", "config", "said"),
    [
        (Stepping, {}, {}, "return the loss and leave the step to the runtime"),
        (Counting, {}, {}, "sets self.count"),
        (WarmingUp, {}, {}, "train_batch uses batch_idx"),
        (Gambling, {}, {}, "random numbers from Python"),
        (Telling, {}, {}, "the metric 'rate' 0.1, which a program would repeat"),
        (Small, {}, {"on_nan": "skip"}, "on_nan: stop"),
        (Small, {"momentum": 0.9, "dampening": 0.5}, {}, "dampening"),
    ],
    ids=["steps", "state", "batch_idx", "random", "numbers", "on_nan", "dampening"],
)
def test_what_no_program_can_do_is_refused(
    lab: Lab, trial: type[mt.Trial], hparams: dict[str, Any], config: dict[str, Any], said: str
) -> None:
    assert said in refused(lab, trial, hparams, **config)


class OwnOptimizer(Small):
    @override
    def build_optimizer(self, model: Any) -> Any:
        return torch.optim.LBFGS(model.parameters())


def test_an_optimizer_without_a_rule_is_refused_and_those_with_one_are_named(lab: Lab) -> None:
    text = refused(lab, OwnOptimizer)
    assert "LBFGS" in text
    assert "AdamW" in text


class Cycling(Small):
    @override
    def build_optimizer(self, model: Any) -> Any:
        return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    @override
    def build_lr_scheduler(self, optimizer: Any) -> Any:
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=100)
        return mt.LRSchedule(cycle, per="batch")


def test_an_option_that_changes_with_every_batch_is_refused_before_it_costs_much(lab: Lab) -> None:
    with pytest.raises(ProgramError, match="cycle_momentum=False"):
        lab.fit(Cycling, lab.context({}, PROGRAM), max_length=mt.Batch(30))


class Freezing(Small):
    @override
    def build_callbacks(self) -> Any:
        trial = self

        class Thaw(mt.Callback):
            @override
            def on_epoch_start(self, epoch_idx: int) -> None:
                trial.model[1].requires_grad_(epoch_idx > 0)

        return [Thaw()]


def test_what_callbacks_freeze_and_thaw_is_seen(lab: Lab) -> None:
    eager, program = both(lab, Freezing, {"momentum": 0.9}, batches=30)
    assert apart(eager, program) < 1e-6


class Metered(Small):
    def __init__(self, context: Any) -> None:
        import torchmetrics

        super().__init__(context)
        self.accuracy = torchmetrics.classification.MulticlassAccuracy(3)

    @override
    def evaluate_batch(self, batch: Any, batch_idx: int) -> Any:
        images, labels = batch
        logits = self.model(images)
        self.accuracy.update(logits, labels)
        return {"validation_loss": cross_entropy(logits, labels), "accuracy": self.accuracy}


def test_a_validation_that_no_program_can_do_is_done_without_one_and_said(lab: Lab) -> None:
    eager, program = both(lab, Metered)
    assert program.result.metrics == pytest.approx(eager.result.metrics, abs=1e-6)
    assert any(text.startswith("Validations are computed without a program.") for text in notices(program))


class Last(Small):
    """With weights whose channels come last in memory, which no checkpoint keeps."""

    strides: list[tuple[tuple[int, ...], tuple[int, ...]]]

    @override
    def build_model(self) -> Any:
        layers = torch.nn.Sequential(
            torch.nn.Unflatten(1, (1, 4)), torch.nn.Conv2d(1, 4, 3), torch.nn.Flatten(), torch.nn.Linear(16, 3)
        )
        return layers.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @override
    def build_callbacks(self) -> Any:
        return {"strides": Strides(self)}


class Strides(mt.Callback):
    """Notes how the gradients of an open group lie."""

    def __init__(self, trial: Last) -> None:
        self.trial = trial
        trial.strides = []

    @override
    def on_validation_end(self, metrics: Mapping[str, float]) -> None:
        parameters = self.trial.model.parameters()
        self.trial.strides += [(p.stride(), p.grad.stride()) for p in parameters if p.grad is not None]


def test_gradients_of_a_checkpoint_are_laid_out_as_the_program_adds_to_them(lab: Lab) -> None:
    hparams = {"aggregation_frequency": 4}
    first = lab.fit(Last, lab.context(hparams, PROGRAM), max_length=mt.Batch(4), checkpoint_period=mt.Batch(2))
    middle = next(e.checkpoint.uuid for e in first.channel.events if isinstance(e, CheckpointSaved))
    context = lab.context(hparams, PROGRAM, checkpoints=[middle])
    resumed = lab.fit(Last, context, max_length=mt.Batch(4), validation_period=mt.Batch(3))
    assert len(resumed.trial.strides) == 4
    assert all(gradient == parameter for parameter, gradient in resumed.trial.strides)


class ByName(Small):
    """Batches are maps, and one sample counts as two."""

    @override
    def build_data(self) -> Any:
        images, labels = samples()
        rows = [{"image": unit(image), "label": label} for image, label in zip(images, labels, strict=True)]
        train, validation = (torch.utils.data.DataLoader(part, batch_size=8) for part in (rows, rows[:30]))
        return train, validation

    @override
    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        loss = cross_entropy(self.model(batch["image"]), batch["label"])
        return {"loss": mt.weighted(loss, 2 * len(batch["label"])), "double": 2 * loss}

    @override
    def evaluate_batch(self, batch: Any, batch_idx: int) -> Any:
        return {"validation_loss": cross_entropy(self.model(batch["image"]), batch["label"])}


@pytest.mark.parametrize("hparams", [{}, {"aggregation_frequency": 2}], ids=str)
def test_batches_may_be_maps_and_metrics_may_be_weighted(lab: Lab, hparams: dict[str, Any]) -> None:
    eager, program = both(lab, ByName, hparams)
    assert apart(eager, program) < 1e-6


class Changing(Small):
    """Has something in a callback changed after each epoch that programs have in them."""

    @override
    def build_callbacks(self) -> Any:
        trial = self

        class Change(mt.Callback):
            @override
            def on_epoch_end(self, epoch_idx: int) -> None:
                trial.change()

        return [Change()]

    def change(self) -> None:
        raise NotImplementedError


class OtherDropout(Changing):
    @override
    def change(self) -> None:
        self.model[3].p = 0.0


class OtherLayer(Changing):
    @override
    def change(self) -> None:
        self.model[2] = torch.nn.Tanh()


class OtherTensor(Changing):
    def __init__(self, context: Any) -> None:
        super().__init__(context)
        self.scale = torch.tensor(1.0)

    @override
    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        return super().train_batch(batch, epoch_idx, batch_idx)["loss"] * self.scale

    @override
    def change(self) -> None:
        self.scale = self.scale * 0.1


class OtherBuffer(Changing):
    @override
    def build_model(self) -> Any:
        model = Normed.build_model(self)  # type: ignore[arg-type]
        model.train()
        return model

    @override
    def change(self) -> None:
        self.model[2].running_mean = torch.full((8,), 0.5)


class OptimizerAnew(Changing):
    @override
    def change(self) -> None:
        self.optimizer.state.clear()


@pytest.mark.parametrize("trial", [OtherDropout, OtherLayer, OtherTensor, OtherBuffer, OptimizerAnew])
def test_what_callbacks_put_in_the_place_of_something_is_used(lab: Lab, trial: type[mt.Trial]) -> None:
    eager, program = both(lab, trial, {"momentum": 0.9}, batches=30)
    assert apart(eager, program) < 1e-6
    assert program.result.metrics == pytest.approx(eager.result.metrics, abs=1e-5)


class Hooked(Small):
    @override
    def build_model(self) -> Any:
        model = super().build_model()
        model[1].weight.register_hook(lambda gradient: gradient * 0.5)
        return model


class Recomputing(Small):
    @override
    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        from torch.utils.checkpoint import checkpoint

        images, labels = batch
        return cross_entropy(checkpoint(self.model, images, use_reentrant=False), labels)


class Seeding(Small):
    @override
    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        torch.manual_seed(1)
        return super().train_batch(batch, epoch_idx, batch_idx)


@pytest.mark.parametrize(
    ("trial", "said"),
    [
        (Hooked, "The parameters 1.weight have hooks"),
        (Recomputing, "preserve_rng_state=False"),
        (Seeding, "(`torch.manual_seed(1)`) sets the state of torch's random numbers"),
    ],
)
def test_what_a_program_would_do_once_or_never_is_refused(lab: Lab, trial: type[mt.Trial], said: str) -> None:
    before = torch.manual_seed, torch.set_rng_state, torch.random.set_rng_state
    assert said in refused(lab, trial, {})
    assert before == (torch.manual_seed, torch.set_rng_state, torch.random.set_rng_state)


class Recurrent(Small):
    @override
    def build_model(self) -> Any:
        class Model(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layers = torch.nn.LSTM(4, 5, num_layers=2, batch_first=True, dropout=0.2)
                self.out = torch.nn.Linear(5, 3)

            @override
            def forward(self, images: torch.Tensor) -> Any:
                return self.out(self.layers(images)[0][:, -1])

        return Model()


def test_a_recurrent_layer_is_learnt_by_a_program(lab: Lab) -> None:
    eager, program = both(lab, Recurrent)
    assert apart(eager, program) < 1e-6
