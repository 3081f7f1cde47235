"""performance.json: what it counts, by a clock that only moves where a test moves it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import mnist_trials as mt
from mnist_trials.events import GoOn, Notice
from mnist_trials.plugin import Execution
from mnist_trials.testing.channel import RecordingChannel
from mnist_trials.training.measures.performance import FILE, Performance, read_performance
from tests.clocks import HandClock
from tests.training.lab import Lab, Small, samples, unit

INPUT, STEP, EVALUATION, SNAPSHOT, HELD = 1.0, 4.0, 10.0, 100.0, 1000.0


class Timed(Small):
    """Takes as long for everything as the constants say."""

    clock: HandClock

    def __init__(self, context: Any) -> None:
        super().__init__(context)
        self.begun = False

    def build_data(self) -> Any:
        def transform(images: torch.Tensor) -> torch.Tensor:
            self.clock.now += INPUT
            return unit(images)

        return mt.TensorData(*samples(), transform), mt.TensorData(*samples(30), unit)

    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        self.clock.now += STEP
        return super().train_batch(batch, epoch_idx, batch_idx)

    def evaluate_batch(self, batch: Any, batch_idx: int) -> Any:
        self.clock.now += EVALUATION
        return super().evaluate_batch(batch, batch_idx)

    def state_dict(self) -> dict[str, Any]:
        self.clock.now += SNAPSHOT
        return {}


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


def fit(lab: Lab, clock: HandClock, batches: int, *, run: int = 1, trial: type[Timed] = Timed, **options: Any) -> Any:
    context = lab.context(**options)
    context.run = run
    made = trial(context)
    made.clock = clock
    return mt.Trainer(made, context, clock=clock).fit(max_length=mt.Batch(batches))


def document(lab: Lab) -> Any:
    return json.loads((lab.folder / "trial" / FILE).read_text())


def test_a_run_writes_down_samples_seconds_and_what_it_waited_for(lab: Lab, clock: HandClock) -> None:
    fit(lab, clock, 10)
    validation, training = 4 * EVALUATION, 10 * (INPUT + STEP)
    assert document(lab) == {
        "runs": 1,
        "batches": 10,
        "total_samples": 80,
        "seconds": training + validation + SNAPSHOT,
        "training_seconds": training,
        "samples_per_second": 80 / training,
        "input_wait_seconds": 10 * INPUT,
        "input_wait_share": INPUT / (INPUT + STEP),
        "validation_seconds": validation,
        "checkpoint_seconds": SNAPSHOT,
        "compile_seconds": 0.0,
        "compilations": 0,
        "suspected_input_bottleneck": False,
    }


def test_what_a_later_run_does_is_added(lab: Lab, clock: HandClock) -> None:
    first = fit(lab, clock, 4)
    before = document(lab)
    fit(lab, clock, 10, run=2, checkpoints=[first.checkpoint])
    after = document(lab)
    assert (after["runs"], after["batches"], after["total_samples"]) == (2, 10, 80)
    assert after["training_seconds"] == 10 * (INPUT + STEP)
    assert after["validation_seconds"] == 2 * before["validation_seconds"]


def test_batches_that_a_restart_trains_again_count_again(lab: Lab, clock: HandClock) -> None:
    fit(lab, clock, 4)
    fit(lab, clock, 4, run=2)
    assert document(lab)["total_samples"] == 64


def test_a_first_run_and_a_plain_script_begin_anew(lab: Lab, clock: HandClock) -> None:
    fit(lab, clock, 4)
    fit(lab, clock, 2)
    assert document(lab)["batches"] == 2
    fit(lab, clock, 3, run=2, experiment_id=0)
    assert document(lab)["batches"] == 3


def test_two_fits_of_one_run_are_added(lab: Lab, clock: HandClock) -> None:
    context, checkpoint = lab.context(), None
    for length in (2, 5):
        trial = Timed(context)
        trial.clock = clock
        fitted = mt.Trainer(trial, context, clock=clock).fit(mt.Batch(length), latest_checkpoint=checkpoint)
        checkpoint = fitted.checkpoint
    assert (document(lab)["runs"], document(lab)["batches"]) == (1, 5)


def test_waiting_for_the_searchers_word_does_not_count(lab: Lab, clock: HandClock) -> None:
    class Slow(RecordingChannel):  # type: ignore[misc] # only here
        def wait_for_word(self) -> Any:
            clock.now += HELD
            return super().wait_for_word()

    channel = Slow()
    channel.answers.append(GoOn(None))
    fit(lab, clock, 10, channel=channel, until=5)
    assert document(lab)["seconds"] == 10 * (INPUT + STEP) + 8 * EVALUATION + 2 * SNAPSHOT


def test_a_run_that_fails_is_written_down_too(lab: Lab, clock: HandClock) -> None:
    class Failing(Timed):
        def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
            if batch_idx == 3:
                raise ValueError("no")
            return super().train_batch(batch, epoch_idx, batch_idx)

    with pytest.raises(ValueError, match="no"):
        fit(lab, clock, 10, trial=Failing)
    assert document(lab)["batches"] == 3


def test_every_checkpoint_writes_down_what_was_done_until_then(lab: Lab, clock: HandClock) -> None:
    class Watched(Timed):
        def build_callbacks(self) -> list[mt.Callback]:
            class Seen(mt.Callback):
                def on_checkpoint_saved(self, checkpoint: str) -> None:
                    found.append(document(lab))

            return [Seen()]

    found: list[Any] = []
    fit(lab, clock, 10, trial=Watched, config={"min_checkpoint_period": {"batches": 4}})
    assert len(found) == 3
    for seen, saved in zip(found, (4, 8, 10), strict=True):  # a save is told while training goes on
        assert seen["runs"] == 1
        assert saved <= seen["batches"] <= 10
        assert seen["training_seconds"] == seen["batches"] * (INPUT + STEP)
        assert seen["input_wait_seconds"] == seen["batches"] * INPUT
    assert document(lab)["training_seconds"] == 10 * (INPUT + STEP)


@pytest.mark.parametrize(("share", "suspected"), [(1 / 3, False), (1 / 2, True)])
def test_an_input_that_takes_more_than_a_third_of_training_is_suspected(
    lab: Lab, clock: HandClock, share: float, suspected: bool
) -> None:
    class Slow(Timed):
        def build_data(self) -> Any:
            def transform(images: torch.Tensor) -> torch.Tensor:
                self.clock.now += STEP * share / (1 - share)
                return unit(images)

            return mt.TensorData(*samples(), transform), mt.TensorData(*samples(30), unit)

    fit(lab, clock, 1, trial=Slow)
    assert document(lab)["input_wait_share"] == pytest.approx(share)
    assert document(lab)["suspected_input_bottleneck"] is suspected


def test_a_folder_that_cannot_be_written_is_told_and_ends_nothing(lab: Lab, clock: HandClock) -> None:
    (lab.folder / "trial").write_text("in the way")
    channel = RecordingChannel()
    assert fit(lab, clock, 2, channel=channel).batches == 2
    (notice,) = channel.of(Notice)
    assert "performance could not be written down" in notice.message


@pytest.fixture
def execution(lab: Lab) -> Execution:
    return lab.context().execution


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"runs": "many"}', "\0"])
def test_a_file_that_is_no_good_counts_as_none(tmp_path: Path, execution: Execution, content: str) -> None:
    (tmp_path / FILE).write_text(content)
    assert read_performance(tmp_path) is None
    assert Performance(tmp_path, execution, goes_on=True).document()["runs"] == 1


def test_a_run_without_training_has_no_rate(tmp_path: Path, execution: Execution) -> None:
    performance = Performance(tmp_path, execution, goes_on=False)
    performance.write()
    found = read_performance(tmp_path)
    assert found is not None
    assert (found["samples_per_second"], found["input_wait_share"]) == (None, 0.0)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_compilations_of_all_runs_are_added(tmp_path: Path) -> None:
    execution: Any = SimpleNamespace(compilations=3, compile_seconds=1.5)
    Performance(tmp_path, execution, goes_on=False).write()
    found = Performance(tmp_path, execution, goes_on=True).document()
    assert (found["compilations"], found["compile_seconds"]) == (6, 3.0)
