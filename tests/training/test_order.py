"""`Trainer.fit` does exactly what its docstring says, in that order: the docstring is run, and compared."""

from __future__ import annotations

import inspect
import textwrap
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR

import mnist_trials as mt
from mnist_trials.events import Event, GoOn, HistogramsReported, MetricsReported, StopRequest, TrialHeld
from mnist_trials.records import Outcome
from mnist_trials.testing.channel import RecordingChannel
from mnist_trials.training.trainer import Trainer
from tests.training.lab import SEARCHED, Lab, Small
from tests.training.storages import Patient, saves_ended

EPOCH = 13  # batches of 8 in 100 samples
VALIDATION = 4  # batches of 8 in 30 samples


def pseudocode() -> str:
    doc = inspect.getdoc(Trainer.fit)
    assert doc is not None
    block = doc.split("compares)::", 1)[1].split("\nArgs:", 1)[0]
    return textwrap.dedent(block)


@dataclass
class Case:
    length: int
    reporting: int = 5
    validation: int = 1000
    checkpoint: int = 1000
    aggregation: int = 1
    policy: str = "all"
    step_zero: bool = False
    initial: bool = False  # save a checkpoint before the first batch
    watch: int = 1000
    stop_at: int = 1000
    held_at: tuple[int, ...] = ()  # in order; after the last it goes on to the end ...
    stopped_when_held: bool = False  # ... or is stopped there
    slow: bool = False  # a save is durable not before it is waited for; else before another batch is trained


class Told:
    """What the docstring's names mean, on a training that only counts."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.calls: list[str] = []
        self.batches = 0
        self.reported = 0
        self.validated_at = -1
        self.saved_at = -1
        self.under_way = False
        self.until = list(case.held_at)
        self.told_to_stop = False

    def names(self) -> dict[str, Any]:
        case = self.case
        hooks = ("on_training_start", "on_training_end", "on_epoch_start", "on_epoch_end", "backward")
        own = ("train_batch", "validate", "save", "on_checkpoint_saved", "wait_for_save", "report", "wait_for_word")
        return {
            **{hook: (lambda *_, hook=hook: self.calls.append(hook)) for hook in hooks},
            **{name: getattr(self, name) for name in own},
            "save_is_durable": lambda: self.under_way and not case.slow,
            "step_zero_validation": case.step_zero,
            "save_initial_checkpoint": case.initial,
            "look": lambda: self.calls.append("look"),
            "watch": case.watch,
            "at_start": lambda: self.batches == 0,
            "finished": lambda: self.batches >= case.length,
            "stop_requested": lambda: self.batches >= case.stop_at or self.told_to_stop,
            "held": lambda: bool(self.until) and self.batches >= self.until[0],
            "at_start_of_epoch": lambda: self.batches % EPOCH == 0,
            "epoch_ended": lambda: self.batches % EPOCH == 0,
            "group_is_full": lambda: ((self.batches - 1) % EPOCH + 1) % case.aggregation == 0,
            "optimizer_step": lambda: self.calls.append("optimizer_step"),
            "step_schedules": lambda per: self.calls.append(f"step_schedules {per}"),
            "due": lambda period: self.batches % period == 0,
            "reporting_period": case.reporting,
            "validation_period": case.validation,
            "checkpoint_period": case.checkpoint,
        }

    def wait_for_word(self) -> None:
        self.calls.append("wait_for_word")
        self.until.pop(0)
        self.told_to_stop = not self.until and self.case.stopped_when_held

    def train_batch(self) -> None:
        self.calls.append("train_batch")
        self.batches += 1

    def report(self) -> None:
        if self.reported < self.batches:
            self.calls.append("report")
        self.reported = self.batches

    def validate(self) -> None:
        if self.validated_at == self.batches:
            return
        self.validated_at = self.batches
        self.calls += ["on_validation_start", *["evaluate_batch"] * VALIDATION, "on_validation_end"]
        if self.case.policy == "all":
            self.save()

    def save(self) -> None:
        if self.saved_at == self.batches:
            return
        self.wait_for_save()
        self.calls.append("copy")
        self.saved_at, self.under_way = self.batches, True

    def wait_for_save(self) -> None:
        if self.under_way:
            self.on_checkpoint_saved()

    def on_checkpoint_saved(self) -> None:
        self.calls.append("on_checkpoint_saved")
        self.under_way = False


def told(case: Case) -> list[str]:
    world = Told(case)
    exec(pseudocode(), world.names())
    return world.calls


def done(lab: Lab, case: Case) -> list[str]:  # noqa: C901 - one small recorder per kind of call
    calls: list[str] = []

    def on_event(event: Event) -> None:
        if isinstance(event, MetricsReported):
            calls.append("report")
        if isinstance(event, HistogramsReported):
            calls.append("look")
        if isinstance(event, TrialHeld):
            calls.append("wait_for_word")

    class Optimizer(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            calls.append("optimizer_step")
            return super().step(closure)

    class Schedule(LambdaLR):
        def __init__(self, optimizer: Any, per: str) -> None:
            self.per = ""
            super().__init__(optimizer, lambda _: 1.0)
            self.per = per

        def step(self, epoch: int | None = None) -> None:
            if self.per:
                calls.append(f"step_schedules {self.per}")
            super().step(epoch)

    class Recorder(mt.Callback):
        def on_training_start(self) -> None:
            calls.append("on_training_start")

        def on_training_end(self) -> None:
            calls.append("on_training_end")

        def on_epoch_start(self, epoch_idx: int) -> None:
            calls.append("on_epoch_start")

        def on_epoch_end(self, epoch_idx: int) -> None:
            calls.append("on_epoch_end")

        def on_validation_start(self) -> None:
            calls.append("on_validation_start")

        def on_validation_end(self, metrics: Any) -> None:
            calls.append("on_validation_end")

        def on_checkpoint_saved(self, uuid: str) -> None:
            calls.append("on_checkpoint_saved")

    class Recorded(Small):
        def build_optimizer(self, model: Any) -> Any:
            return Optimizer(model.parameters(), lr=0.1)

        def build_lr_scheduler(self, optimizer: Any) -> Any:
            return [
                mt.LRSchedule(Schedule(optimizer, "optimizer_step"), per="optimizer_step"),
                mt.LRSchedule(Schedule(optimizer, "batch"), per="batch"),
                Schedule(optimizer, "epoch"),
            ]

        def build_callbacks(self) -> Any:
            return [Recorder()]

        def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
            if not case.slow:
                saves_ended()
            calls.append("train_batch")
            metrics = super().train_batch(batch, epoch_idx, batch_idx)
            metrics["loss"].register_hook(lambda _: calls.append("backward"))
            return metrics

        def evaluate_batch(self, batch: Any, batch_idx: int) -> Any:
            calls.append("evaluate_batch")
            return super().evaluate_batch(batch, batch_idx)

        def state_dict(self) -> dict[str, Any]:
            calls.append("copy")
            return {}

    if case.slow:
        lab.storage = Patient(lab.storage)
    channel = RecordingChannel(on_event)
    channel.stop_at_poll(case.stop_at)
    first, *later = [*case.held_at, None]
    channel.answers.extend(GoOn(until) for until in later)
    if case.stopped_when_held:
        channel.answers[-1] = StopRequest(Outcome.PAUSED)
    config = {**SEARCHED, "save_initial_checkpoint": case.initial, "watch": {"what": "parameters", "every": case.watch}}
    lab.fit(
        Recorded,
        lab.context({"aggregation_frequency": case.aggregation}, config, channel=channel, until=first),
        max_length=mt.Batch(case.length),
        reporting_period=mt.Batch(case.reporting),
        validation_period=mt.Batch(case.validation),
        checkpoint_period=mt.Batch(case.checkpoint),
        checkpoint_policy=case.policy,
        step_zero_validation=case.step_zero,
    )
    return calls


@pytest.mark.parametrize(
    "case",
    [
        Case(length=3),
        Case(length=30, validation=10, checkpoint=4),
        Case(length=26, validation=13, step_zero=True),
        Case(length=30, aggregation=4, validation=7, policy="none"),
        Case(length=26, aggregation=5, reporting=13, checkpoint=13, policy="none"),
        Case(length=30, stop_at=17, validation=17),
        Case(length=30, stop_at=15, aggregation=4, checkpoint=5, policy="none"),
        Case(length=20, stop_at=20, policy="none"),
        Case(length=30, held_at=(5, 13, 20)),
        Case(length=30, held_at=(5, 6, 13), validation=5, checkpoint=5, policy="none", aggregation=4),
        Case(length=30, held_at=(1, 29), stopped_when_held=True, policy="none"),
        Case(length=30, held_at=(13,), stopped_when_held=True, validation=13),
        Case(length=30, held_at=(30,), policy="none"),
        Case(length=30, held_at=(17,), stop_at=17, policy="none"),
        Case(length=30, validation=10, checkpoint=4, slow=True),
        Case(length=30, validation=7, checkpoint=7, aggregation=4, step_zero=True, slow=True),
        Case(length=30, stop_at=17, checkpoint=16, policy="none", slow=True),
        Case(length=30, held_at=(5, 6, 13), validation=5, policy="none", slow=True),
        Case(length=30, held_at=(1, 29), stopped_when_held=True, slow=True),
        Case(length=20, initial=True, policy="none"),
        Case(length=20, initial=True, step_zero=True, checkpoint=7, slow=True),
        Case(length=30, watch=5, reporting=10, validation=13),
        Case(length=30, watch=4, aggregation=3, held_at=(8,), stop_at=20),
    ],
    ids=str,
)
def test_fit_does_what_its_docstring_says(lab: Lab, case: Case) -> None:
    assert done(lab, case) == told(case)
