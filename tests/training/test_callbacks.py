"""Callbacks: which hooks are called, stopping early, and the state they keep."""

from __future__ import annotations

from typing import Any

import pytest

import mnist_trials as mt
from mnist_trials.errors import TrialError
from mnist_trials.events import CheckpointSaved, Notice, ValidationCompleted
from mnist_trials.records import Outcome
from mnist_trials.training.callbacks import Callbacks, EarlyStopping
from tests.training.lab import Lab, Small


def validated(callback: EarlyStopping, values: list[float]) -> int:
    """How many validations with these values it takes until the callback wants to stop; 0: it does not."""
    for number, value in enumerate(values, start=1):
        callback.on_validation_end({"score": value})
        if callback.stop_reason is not None:
            return number
    return 0


@pytest.mark.parametrize(
    ("arguments", "values", "stops"),
    [
        ({"patience": 2}, [3, 2, 1, 0.5], 0),
        ({"patience": 2}, [3, 2, 2, 2], 4),
        ({"patience": 2}, [3, 4, 2, 3, 3], 5),
        ({"patience": 1, "mode": "max"}, [1, 2, 3, 2.5], 4),
        ({"patience": 1, "min_delta": 0.5}, [3, 2.4, 2.0], 3),
        ({"patience": 2}, [float("nan"), float("nan")], 2),
        ({"patience": 1}, [1.0, float("nan")], 2),
    ],
)
def test_early_stopping_waits_as_long_as_it_was_told(arguments: Any, values: list[float], stops: int) -> None:
    assert validated(EarlyStopping("score", **arguments), values) == stops


def test_early_stopping_goes_on_waiting_after_a_restore() -> None:
    first = EarlyStopping("score", patience=3)
    validated(first, [1.0, 2.0])
    second = EarlyStopping("score", patience=3)
    second.load_state_dict(first.state_dict())
    assert validated(second, [2.0, 2.0, 2.0]) == 2


@pytest.mark.parametrize(
    "arguments", [{"patience": 0}, {"patience": 1, "min_delta": -1}, {"patience": 1, "mode": "up"}]
)
def test_early_stopping_refuses_what_makes_no_sense(arguments: Any) -> None:
    with pytest.raises(TrialError, match="patience of at least 1"):
        EarlyStopping("score", **arguments)


def test_early_stopping_names_the_metrics_there_are() -> None:
    with pytest.raises(TrialError, match="'score', but evaluate_batch gave: accuracy, loss"):
        EarlyStopping("score", patience=1).on_validation_end({"loss": 1.0, "accuracy": 0.5})


class Stopped(Small):
    def build_callbacks(self) -> Any:
        return [EarlyStopping("accuracy", patience=2, min_delta=10.0, mode="max")]


@pytest.mark.parametrize("aggregation", [1, 5])
def test_a_callback_ends_training_as_if_it_were_complete(lab: Lab, aggregation: int) -> None:
    run = lab.fit(
        Stopped,
        lab.context({"aggregation_frequency": aggregation}),
        max_length=mt.Batch(50),
        validation_period=mt.Batch(3),
    )
    assert run.result.outcome is Outcome.COMPLETED
    assert run.result.batches == 9
    assert "Training ends after 9 batches: EarlyStopping.0: 'accuracy' has not improved" in (
        run.channel.of(Notice)[0].message
    )
    last = run.channel.of(CheckpointSaved)[-1].checkpoint
    assert last.batches == 9
    assert last.metrics == run.channel.of(ValidationCompleted)[-1].metrics


def test_hooks_that_are_not_overridden_are_not_called(monkeypatch: pytest.MonkeyPatch) -> None:
    class Quiet(mt.Callback):
        def on_epoch_start(self, epoch_idx: int) -> None:
            called.append(epoch_idx)

    def fail(self: Any) -> None:
        raise AssertionError

    called: list[int] = []
    monkeypatch.setattr(mt.Callback, "on_training_start", fail)
    callbacks = Callbacks({"quiet": Quiet()})
    callbacks.call("on_training_start")
    callbacks.call("on_epoch_start", 3)
    assert called == [3]


def test_state_is_kept_by_name_and_a_new_callback_starts_afresh(lab: Lab) -> None:
    class Counter(mt.Callback):
        def __init__(self) -> None:
            self.epochs = 0

        def on_epoch_end(self, epoch_idx: int) -> None:
            self.epochs += 1

        def state_dict(self) -> dict[str, Any]:
            return {"epochs": self.epochs}

        def load_state_dict(self, state: Any) -> None:
            self.epochs = state["epochs"]

    class Counted(Small):
        names = ("a",)

        def build_callbacks(self) -> Any:
            self.counters = {name: Counter() for name in self.names}
            return self.counters

    class CountedMore(Counted):
        names = ("b", "a")

    first = lab.fit(Counted, max_length=mt.Epoch(2))
    second = lab.fit(CountedMore, lab.context(checkpoints=[str(first.result.checkpoint)]), max_length=mt.Epoch(3))
    assert {name: counter.epochs for name, counter in second.trial.counters.items()} == {"a": 3, "b": 1}


def test_training_that_a_callback_has_ended_stays_ended_after_a_restart(lab: Lab) -> None:
    lengths = {"max_length": mt.Batch(50), "validation_period": mt.Batch(3), "checkpoint_policy": "all"}
    first = lab.fit(Stopped, **lengths)
    again = lab.fit(Stopped, lab.context(checkpoints=[str(first.result.checkpoint)]), **lengths)
    assert again.result == first.result
    assert not again.channel.of(ValidationCompleted)


def test_a_restart_before_the_first_batch_does_not_validate_a_second_time(lab: Lab) -> None:
    lengths = {"max_length": mt.Batch(50), "validation_period": mt.Batch(3), "step_zero_validation": True}
    straight = lab.fit(Stopped, **lengths)
    first = straight.channel.of(CheckpointSaved)[0].checkpoint
    assert first.batches == 0
    resumed = lab.fit(Stopped, lab.context(checkpoints=[first.uuid]), **lengths)
    assert resumed.result.batches == straight.result.batches == 6
    assert [event.batches for event in resumed.channel.of(ValidationCompleted)] == [3, 6]
