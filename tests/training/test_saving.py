"""Checkpoints are written while training goes on: one at a time, told when durable, tried again, never lost."""

from __future__ import annotations

import errno
import os
import threading
from typing import Any

import pytest
import torch

import mnist_trials as mt
from mnist_trials.checkpoint import take_snapshot, write_checkpoint, write_snapshot
from mnist_trials.errors import CheckpointError
from mnist_trials.events import CheckpointSaved, MetricsReported, Notice, ProgressReported
from mnist_trials.testing.channel import RecordingChannel
from mnist_trials.testing.waiting import wait_until
from mnist_trials.training.saving import background
from tests.training.lab import Lab, Small, same
from tests.training.storages import Failing, Gated, Patient, saves_ended

PERIOD = {"checkpoint_period": mt.Batch(3), "checkpoint_policy": "none"}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "PAUSES", (0.0, 0.0, 0.0, 0.0))


def saved(channel: RecordingChannel) -> list[int]:
    return [event.checkpoint.batches for event in channel.of(CheckpointSaved)]


class Watched(Small):
    """Calls `at[batch_idx]` before that batch."""

    at: dict[int, Any]

    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        self.at.get(batch_idx, lambda: None)()
        return super().train_batch(batch, epoch_idx, batch_idx)


def watched(at: dict[int, Any]) -> type[Watched]:
    return type("AtItsBatches", (Watched,), {"at": at})


def test_training_goes_on_while_a_checkpoint_is_written_and_what_it_changes_does_not_show(lab: Lab) -> None:
    lab.storage = gated = Gated(lab.storage)
    told: list[int] = []
    channel = RecordingChannel(
        lambda event: told.append(trainer.batches) if isinstance(event, CheckpointSaved) else None
    )

    def open_late() -> None:
        assert gated.entered.wait(60)
        assert channel.of(CheckpointSaved) == []
        gated.gate.set()
        saves_ended()

    context = lab.context(channel=channel)
    trainer = mt.Trainer(watched({8: open_late})(context), context)
    trainer.fit(max_length=mt.Batch(12), checkpoint_period=mt.Batch(5), checkpoint_policy="none")
    assert saved(channel) == [5, 10, 12]
    assert told[0] == 9  # after the batch during which it became durable
    straight = lab.fit(Small, lab.context(), max_length=mt.Batch(5))
    late = lab.read(channel.of(CheckpointSaved)[0].checkpoint.uuid)
    assert same(dict(late.model), straight.weights)
    assert late.state["position"]["batches"] == 5


def test_it_is_told_after_a_batch_however_far_off_the_next_report_is(lab: Lab) -> None:
    channel = RecordingChannel()
    seen: list[list[int]] = []
    at = {2: saves_ended, 3: lambda: seen.append(saved(channel))}
    context = lab.context(channel=channel)
    mt.Trainer(watched(at)(context), context).fit(
        max_length=mt.Batch(50), checkpoint_period=[mt.Batch(2)], checkpoint_policy="none"
    )
    assert seen == [[2]]


def test_a_save_waits_for_the_one_before_it_and_profiling_shows_for_how_long(lab: Lab) -> None:
    under_way: list[int] = []

    class Counting(Patient):
        def begin(self, checkpoint_id: str) -> Any:
            under_way.append(sum(thread.name == "save-checkpoint" for thread in threading.enumerate()))
            return super().begin(checkpoint_id)

    lab.storage = Counting(lab.storage)
    run = lab.fit(Small, max_length=mt.Batch(10), reporting_period=mt.Batch(10), profiling_enabled=True, **PERIOD)
    assert saved(run.channel) == [3, 6, 9, 10]
    assert under_way == [1, 1, 1, 1]
    (metrics,) = (event.metrics for event in run.channel.of(MetricsReported))
    assert metrics["profiling_save_wait_seconds"] > 0  # type: ignore[operator]
    assert metrics["profiling_snapshot_seconds"] > 0  # type: ignore[operator]


def test_a_snapshot_shares_no_memory_with_the_model_and_the_optimizer(lab: Lab) -> None:
    class Momentum(Small):
        def __init__(self, context: mt.TrialContext) -> None:
            super().__init__(context)
            self.array = torch.zeros(3).numpy()
            self.listed = [0]

        def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
            self.array += 1
            self.listed[0] += 1
            return super().train_batch(batch, epoch_idx, batch_idx)

        def state_dict(self) -> dict[str, Any]:
            return {"array": self.array, "listed": self.listed}

    lab.storage = Patient(lab.storage)
    hparams = {"momentum": 0.9}
    late = lab.fit(
        Momentum, lab.context(hparams), max_length=mt.Batch(8), **(PERIOD | {"checkpoint_period": mt.Batch(4)})
    )
    first = lab.fit(Momentum, lab.context(hparams), max_length=mt.Batch(4), checkpoint_policy="none")
    left = lab.read(late.channel.of(CheckpointSaved)[0].checkpoint.uuid)
    right = lab.read(str(first.result.checkpoint))
    assert left.state["trial"]["listed"] == [4]
    assert all(same(left.state[part], right.state[part]) for part in ("trial", "optimizers", "stepper", "data"))
    assert same(dict(left.model), dict(right.model))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("times", [1, 4])
def test_a_save_that_fails_is_tried_again_under_its_id_and_each_failure_is_told(lab: Lab, times: int) -> None:
    lab.storage = failing = Failing(lab.storage, times, CheckpointError("the dog ate it"))
    run = lab.fit(Small, **PERIOD)
    notices = [event.message for event in run.channel.of(Notice)]
    assert saved(run.channel) == [3, 6, 9, 10]
    assert len(set(failing.tried[: times + 1])) == 1
    assert notices == [
        f"Saving after 3 batches has failed (try {number} of at most 5); training goes on, the next try is in 0 s. "
        "the dog ate it"
        for number in range(1, times + 1)
    ]


@pytest.mark.usefixtures("quick")
def test_one_that_fails_for_good_ends_training_with_its_error(lab: Lab) -> None:
    lab.storage = failing = Failing(lab.storage, 100, CheckpointError("the dog ate it"))
    context = lab.context()
    with pytest.raises(CheckpointError, match=r"^the dog ate it$"):
        mt.Trainer(Small(context), context).fit(max_length=mt.Batch(1000), **PERIOD)
    assert len(failing.tried) == 5
    assert len(set(failing.tried)) == 1
    assert lab.storage.ids() == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_at_once(lab: Lab, code: int) -> None:
    lab.storage = failing = Failing(lab.storage, 100, OSError(code, os.strerror(code)))
    context = lab.context()
    with pytest.raises(CheckpointError, match=os.strerror(code)):
        mt.Trainer(Small(context), context).fit(max_length=mt.Batch(1000), **PERIOD)
    assert len(failing.tried) == 1


def test_test_mode_tells_the_first_failure(lab: Lab) -> None:
    lab.storage = failing = Failing(lab.storage, 100, CheckpointError("the dog ate it"))
    with pytest.raises(CheckpointError, match="the dog ate it"):
        lab.fit(Small, lab.context(test_mode=True))
    assert len(failing.tried) == 1


def test_what_is_no_error_of_a_storage_is_not_tried_again(lab: Lab) -> None:
    lab.storage = failing = Failing(lab.storage, 100, ZeroDivisionError("a mistake"))
    with pytest.raises(ZeroDivisionError, match="a mistake"):
        lab.fit(Small, **PERIOD)
    assert len(failing.tried) == 1


def test_a_committed_checkpoint_whose_answer_was_lost_is_written_anew(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "PAUSES", (0.0,))

    class AnswerLost(Failing):
        deletes = 0

        def commit(self, checkpoint_id: str) -> None:
            if not self.tried:
                self._storage.commit(checkpoint_id)
            super().commit(checkpoint_id)

        def delete(self, checkpoint_id: str) -> None:
            self.deletes += 1
            if self.deletes == 1:
                raise CheckpointError("no answer either")
            super().delete(checkpoint_id)

    lab.storage = AnswerLost(lab.storage, 1, CheckpointError("no answer"))
    run = lab.fit(Small, max_length=mt.Batch(2), checkpoint_policy="none")
    assert saved(run.channel) == [2]
    assert lab.storage.ids() == [run.result.checkpoint]


@pytest.mark.parametrize("error", [ZeroDivisionError("my own"), SystemExit(3)])
def test_an_error_lets_the_save_under_way_finish_and_tells_it(lab: Lab, error: BaseException) -> None:
    lab.storage = gated = Gated(lab.storage)
    called: list[str] = []

    class Told(mt.Callback):
        def on_checkpoint_saved(self, uuid: str) -> None:
            called.append(uuid)

    def fail() -> None:
        threading.Timer(0.0, gated.gate.set).start()
        raise error

    ends = type("Ends", (Watched,), {"at": {5: fail}, "build_callbacks": lambda _: [Told()]})
    context = lab.context()
    with pytest.raises(type(error)):
        mt.Trainer(ends(context), context).fit(max_length=mt.Batch(9), **PERIOD)
    channel = context.channel
    assert isinstance(channel, RecordingChannel)
    assert saved(channel) == [3]
    assert called == []
    assert isinstance(channel.events[-2], ProgressReported)
    assert [event.checkpoint.uuid for event in channel.of(CheckpointSaved)] == lab.storage.ids()


def test_an_error_ends_the_tries_of_the_save_under_way(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "PAUSES", (60.0,))
    lab.storage = failing = Failing(lab.storage, 100, CheckpointError("the dog ate it"))

    def fail() -> None:
        wait_until(lambda: bool(failing.tried))
        raise ZeroDivisionError("my own")

    context = lab.context()
    with pytest.raises(ZeroDivisionError):
        mt.Trainer(watched({5: fail})(context), context).fit(max_length=mt.Batch(9), **PERIOD)
    assert len(failing.tried) == 1
    assert isinstance(context.channel, RecordingChannel)
    last = context.channel.of(Notice)[-1].message
    assert last == "An error ends training. The save that was under way then failed: the dog ate it"


class KeepsAnObject(mt.Callback):
    def state_dict(self) -> dict[str, Any]:
        return {"seen": {1, 2}}


class Scheduler(torch.optim.lr_scheduler.LambdaLR):
    def state_dict(self) -> dict[str, Any]:
        return {"thing": object()}


@pytest.mark.parametrize(
    ("method", "made", "path"),
    [
        ("state_dict", lambda *_: {"deep": [{"thing": object()}]}, r"trial\.deep\.0\.thing"),
        ("build_callbacks", lambda *_: {"keeper": KeepsAnObject()}, r"callbacks\.keeper\.state\.seen"),
        ("build_lr_scheduler", lambda _, optimizer: Scheduler(optimizer, lambda _: 1.0), r"schedules\.\S*thing"),
    ],
)
def test_a_state_that_cannot_be_kept_is_refused_by_its_path_where_it_is_saved(
    lab: Lab, method: str, made: Any, path: str
) -> None:
    lab.storage = failing = Failing(lab.storage, 0, CheckpointError(""))
    trial = type("Refused", (Small,), {method: made})
    context = lab.context()
    trainer = mt.Trainer(trial(context), context)
    with pytest.raises(CheckpointError, match=rf"{path} cannot be kept in a checkpoint"):
        trainer.fit(max_length=mt.Batch(10), **PERIOD)
    assert trainer.batches == 3
    assert failing.tried == []
    assert lab.storage.ids() == []


def test_a_written_snapshot_is_byte_for_byte_what_is_written_at_once(lab: Lab) -> None:
    content = lab.read(str(lab.fit(Small).result.checkpoint))
    left = write_checkpoint(lab.storage, "left", content)
    snapshot = take_snapshot(content)
    right = write_snapshot(lab.storage, "right", snapshot, snapshot.gathering(None))
    assert left.bytes == right.bytes
    with lab.storage.fetch("left") as one, lab.storage.fetch("right") as other:
        names = sorted(path.name for path in one.iterdir())
        assert names == sorted(path.name for path in other.iterdir())
        assert all((one / name).read_bytes() == (other / name).read_bytes() for name in names)
