"""Trials that start with the weights of another."""

from __future__ import annotations

import importlib
import json
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def scripted(lab: Any) -> None:
    importlib.import_module("scripted_searcher").install()


def run(lab: Any, answers: dict[str, Any], *, slots: int = 1, length: int = 6, **hparams: Any) -> dict[str, Any]:
    config = lab.config(length=length, launcher="local", **hparams)
    config["searcher"] |= {"name": "scripted", "answers": answers}
    return lab.run(lab.submit(config, slots=slots))  # type: ignore[no-any-return]


def create(**values: Any) -> list[Any]:
    return ["Create", values]


def pause(trial_id: int) -> list[Any]:
    return ["Pause", {"trial_id": trial_id}]


def value_of(lab: Any, uuid: str) -> float:
    return float(json.loads((lab.files(1).checkpoints / uuid / "state.json").read_text())["value"])


def first_value(lab: Any, trial_id: int) -> float:
    return float(next(metrics["value"] for kind, _, metrics in lab.values(1, trial_id) if kind == "training"))


def check_that_it_began_with(lab: Any, heir: int, source: int, batches: int) -> None:
    """The fake worker's value after a batch is 0.875 of the one before, plus the number of the batch."""
    with lab.reader() as reader:
        (uuid,) = [row.uuid for row in reader.checkpoints(1) if (row.trial_id, row.batches) == (source, batches)]
    assert first_value(lab, heir) == value_of(lab, uuid) * 0.875 + 1


def test_a_new_trial_waits_for_the_checkpoint_of_its_source_and_nobody_waits_for_it(lab: Any) -> None:
    # Trial 1 is judged at 2 and not saved before 4; 2 is its heir; 3 needs nobody.
    answers = {"": [create()], "1@2": [create(source=1), create()]}
    hold = {"do": "hold", "at": 3, "in_trials": [1], "save_every": 4}
    config = lab.config(length=6, launcher="local", **hold)
    config["searcher"] |= {"name": "scripted", "answers": answers}

    def let_go(event: Any) -> None:
        if type(event).__name__ == "WorkersExited" and event.trial_id == 3:
            (lab.files(1).trial(1) / "go").touch()

    follower = importlib.import_module("recording_logger").Recording(let_go)
    summary = lab.run(lab.submit(config, slots=2), [follower])
    assert [trial["state"] for trial in summary["trials"]] == ["COMPLETED"] * 3
    check_that_it_began_with(lab, 2, 1, 4)
    with lab.reader() as reader:
        row = reader.trial(1, 2)
        assert (row.source_trial, row.source_batches) == (1, 2)
        assert reader.decisions(1)[1].actions[0] == {"action": "Create", "trial_id": 2, "source": 1}


def test_the_first_checkpoint_from_the_judged_point_on_is_taken_from_a_trial_that_has_ended_too(lab: Any) -> None:
    answers = {"": [create()], "exit 1": [create(source=1)]}
    summary = run(lab, answers)
    assert [trial["state"] for trial in summary["trials"]] == ["COMPLETED"] * 2
    check_that_it_began_with(lab, 2, 1, 6)


def test_a_held_source_hands_on_the_weights_of_that_point(lab: Any) -> None:
    answers = {"": [create(until=3)], "1@3": [pause(1), create(source=1)], "exit 2": [["Shutdown", {}]]}
    run(lab, answers, save_every=100)
    check_that_it_began_with(lab, 2, 1, 3)


def test_an_heir_goes_on_from_its_own_checkpoint_when_it_is_restarted(lab: Any) -> None:
    answers = {"": [create()], "exit 1": [create(source=1)]}
    summary = run(lab, answers, do="kill", at=5, in_runs=[1], in_trials=[2])
    assert summary["trials"][1]["restarts"] == 1
    with lab.reader() as reader:
        assert [run.start_batches for run in reader.runs(1, 2)] == [0, 4]


@pytest.mark.parametrize("in_time", [True, False])
def test_an_heir_whose_source_ends_without_a_checkpoint_fails_with_the_reason(lab: Any, in_time: bool) -> None:
    """The source dies at batch 3; its heir was made before (`in_time`) or after that."""
    answers: dict[str, Any] = {"": [create()], **({"1@2": [create(source=1)]} if in_time else {})}
    if not in_time:
        answers["fail 1"] = [create(source=1)]
    summary = run(lab, answers, do="raise", at=3, retryable=False, in_trials=[1], save_every=100)
    assert [trial["state"] for trial in summary["trials"]] == ["ERROR", "ERROR"]
    with lab.reader() as reader:
        assert reader.trial(1, 2).message == (
            "it was to start with the weights of trial 1 after 2 batches, which ended without a checkpoint from there "
            "on"
        )
        failed = [(row.trial_id, row.reason) for row in reader.decisions(1) if row.event == "trial_failed"]
        assert reader.experiment(1).message == "all 2 trials failed"
    assert failed == [(1, "error"), (2, "error")]


def test_an_heir_of_a_resting_trial_that_will_not_be_saved_fails_instead_of_waiting_for_ever(lab: Any) -> None:
    """The source is paused where it is not held, and dies before it is saved."""
    answers = {"": [create()], "1@2": [pause(1), create(source=1)], "fail 2": [["Shutdown", {}]]}
    summary = run(lab, answers, do="wait_and_die", at=2, in_trials=[1], save_every=100)
    assert [trial["state"] for trial in summary["trials"]] == ["COMPLETED", "ERROR"]
    with lab.reader() as reader:
        assert "of trial 1 after 2 batches, which rests without a checkpoint" in reader.trial(1, 2).message


def test_an_heir_is_still_waiting_after_its_controller_died(lab: Any) -> None:
    """Its source comes again to where it was judged, and is saved there this time."""
    answers = {"": [create()], "1@2": [create(source=1)]}
    config = lab.config(length=6, launcher="local", do="hold", at=3, in_trials=[1], in_runs=[1], save_every=4)
    config["searcher"] |= {"name": "scripted", "answers": answers}
    process = lab.start(lab.submit(config, slots=2))
    lab.wait_until_holding(1)
    process.kill()
    process.communicate(timeout=60)
    summary = lab.run(1)
    assert [trial["state"] for trial in summary["trials"]] == ["COMPLETED"] * 2
    check_that_it_began_with(lab, 2, 1, 2)


def test_a_source_that_dies_before_it_is_saved_is_saved_where_it_was_judged_when_it_comes_there_again(lab: Any) -> None:
    """It is promoted in the same answer, so that it would not be held there a second time for its own sake."""
    answers = {"": [create(until=2)], "1@2": [pause(1), create(source=1), ["Resume", {"trial_id": 1, "until": 6}]]}
    summary = run(lab, answers, do="kill", when_judged=2, in_trials=[1], in_runs=[1], save_every=100)
    assert [trial["state"] for trial in summary["trials"]] == ["COMPLETED"] * 2
    check_that_it_began_with(lab, 2, 1, 2)
    with lab.reader() as reader:
        told = [row.units for row in reader.decisions(1) if row.event == "validation_completed" and row.trial_id == 1]
    assert told == [2, 4, 6]
