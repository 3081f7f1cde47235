"""How trials and experiments end, for every way in which a worker can end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mnist_trials.experiment import api
from mnist_trials.experiment.life import take_charge
from mnist_trials.records import Outcome, TrialState
from mnist_trials.store import open_store
from mnist_trials.store.rows import TrialRow


def the_trial(lab: Any, trial_id: int = 1) -> TrialRow:
    with lab.reader() as reader:
        return reader.trial(1, trial_id)


@pytest.mark.parametrize("launcher", ["inline", "local"])
def test_a_trial_runs_to_its_end_and_everything_is_on_record(lab: Any, launcher: str) -> None:
    summary = lab.trial(launcher=launcher, length=7, target=12)
    assert (summary["state"], summary["dataset"]) == ("COMPLETED", "fake")
    (trial,) = summary["trials"]
    assert (trial["state"], trial["batches"], trial["restarts"], trial["stopped_early"]) == ("COMPLETED", 7, 0, False)
    assert summary["wall_seconds"] > 0
    with lab.reader() as reader:
        assert reader.experiment(1).progress == 1.0
        assert [row.batches for row in reader.metrics(1, 1, "training")] == [1, 2, 3, 4, 5, 6, 7]
        assert [row.batches for row in reader.metrics(1, 1, "validation")] == [2, 4, 6]
        checkpoints = reader.checkpoints(1)
        assert [row.batches for row in checkpoints] == [2, 4, 6, 7]
        (run,) = reader.runs(1, 1)
        assert (run.outcome, run.batches, run.exit_codes) == (Outcome.COMPLETED, 7, (0,))
        assert [decision.event for decision in reader.decisions(1)] == [
            "initial_trials",
            *["validation_completed"] * 3,
            "trial_exited",
        ]
    assert trial["latest_checkpoint"] == checkpoints[-1].uuid


def test_the_best_is_the_best_validation_with_the_checkpoint_saved_at_that_batch(lab: Any) -> None:
    summary = lab.trial(length=8, save_every=4, target=0)
    with lab.reader() as reader:
        validations = reader.metrics(1, 1, "validation")
        by_batch = {row.batches: row.uuid for row in reader.checkpoints(1)}
    best = min(validations, key=lambda row: row.metrics["loss"])
    assert summary["best"]["value"] == best.metrics["loss"]
    assert summary["best"]["metrics"] == best.metrics
    assert summary["best"]["checkpoint"] == by_batch.get(best.batches)
    assert sorted(by_batch) == [4, 8]


def test_an_exception_is_tried_again_from_the_latest_checkpoint(lab: Any) -> None:
    undisturbed = lab.trial(length=8)
    summary = lab.trial(length=8, do="raise", at=5, in_runs=[1, 2])
    assert summary["trials"][0]["restarts"] == 2
    assert summary["best"]["value"] == undisturbed["best"]["value"]
    assert lab.values(2) == lab.values(1)
    notices = lab.notices(2)
    assert "failed at batch 5 (ValueError: run 1); it goes on from batch 4 (restart 1 of at most 5)" in notices
    assert "restart 2 of at most 5" in notices
    with lab.reader() as reader:
        assert [(run.outcome, run.start_batches) for run in reader.runs(2, 1)] == [
            (Outcome.FAILED, 0),
            (Outcome.FAILED, 4),
            (Outcome.COMPLETED, 4),
        ]


def test_the_same_exception_at_the_same_batch_is_not_tried_a_third_time(lab: Any) -> None:
    summary = lab.trial(do="raise", at=3, message="always")
    trial = the_trial(lab)
    assert summary["state"] == "ERROR"
    assert (trial.state, trial.restarts) == (TrialState.ERROR, 1)
    assert trial.message == "ValueError: always (twice at batch 3: not tried again)"
    assert trial.error is not None
    assert trial.error.traceback == "Traceback: in the user's code"


def test_exceptions_that_differ_are_tried_again_as_often_as_max_restarts_says(lab: Any) -> None:
    config = lab.config(do="raise", at=3) | {"max_restarts": 2}
    assert lab.run(lab.submit(config))["state"] == "ERROR"
    trial = the_trial(lab)
    assert trial.restarts == 2
    assert trial.message == "ValueError: run 3 (2 restarts, as many as max_restarts allows)"


def test_max_restarts_of_zero_means_no_second_run(lab: Any) -> None:
    config = lab.config(do="raise", at=3) | {"max_restarts": 0}
    assert lab.run(lab.submit(config))["state"] == "ERROR"
    assert (the_trial(lab).restarts, the_trial(lab).message) == (0, "ValueError: run 1")


def test_an_error_that_cannot_end_otherwise_is_not_tried_again(lab: Any) -> None:
    assert lab.trial(do="raise", at=3, retryable=False)["state"] == "ERROR"
    assert the_trial(lab).restarts == 0


def test_a_test_run_is_never_tried_again(lab: Any) -> None:
    assert lab.run(lab.submit(lab.config(do="raise", at=1), test=True))["state"] == "ERROR"
    assert the_trial(lab).restarts == 0


def test_hyperparameters_that_make_no_sense_end_the_trial(lab: Any) -> None:
    assert lab.trial(do="invalid", at=0)["state"] == "ERROR"
    trial = the_trial(lab)
    assert (trial.restarts, trial.message) == (0, "its hyperparameters make no sense: lr too big")
    with lab.reader() as reader:
        assert reader.decisions(1)[-1].event == "trial_failed"


def test_a_killed_process_is_tried_again_and_that_is_said(lab: Any) -> None:
    undisturbed = lab.trial(length=8)
    summary = lab.trial(length=8, launcher="local", do="kill", at=5, in_runs=[1, 2])
    assert (summary["state"], summary["trials"][0]["restarts"]) == ("COMPLETED", 2)
    assert lab.values(2) == lab.values(1)
    assert summary["best"]["value"] == undisturbed["best"]["value"]
    assert "rank 0 was ended by SIGKILL (out of memory, perhaps)); it goes on from batch 4" in lab.notices(2)


def test_an_exit_status_repeated_at_the_same_batch_is_not_tried_a_third_time(lab: Any) -> None:
    assert lab.trial(launcher="local", do="exit", code=3, at=3)["state"] == "ERROR"
    trial = the_trial(lab)
    assert (trial.restarts, trial.message) == (
        1,
        "WorkerDied: rank 0 ended with status 3 (twice at batch 3: not tried again)",
    )


def test_an_exit_in_the_middle_of_training_is_an_error_even_with_status_0(lab: Any) -> None:
    assert lab.trial(launcher="local", do="exit", code=0, at=3)["state"] == "ERROR"
    assert "sys.exit()" in the_trial(lab).message


def test_a_command_that_reports_nothing_is_an_error_that_says_what_to_do(lab: Any) -> None:
    (lab.context / "script.py").write_text("print('hello')\n")
    config = lab.config(launcher="local", do="exit", code=0, at=0) | {"entrypoint": "python3 script.py"}
    experiment_id = lab.submit(config)
    assert take_charge(lab.home, experiment_id, target="fake_silent:run")["state"] == "ERROR"
    trial = the_trial(lab)
    assert trial.restarts == 0
    assert "mnist_trials.init()" in trial.message


def test_a_script_that_fails_after_its_training_is_tried_again_and_its_run_is_told_as_failed(lab: Any) -> None:
    (lab.context / "script.py").touch()
    config = lab.config(launcher="local", do="say_done_and_exit", code=3, at=3, in_runs=[1])
    summary = lab.run(lab.submit(config | {"entrypoint": "python3 script.py"}))
    assert (summary["state"], summary["trials"][0]["restarts"]) == ("COMPLETED", 1)
    assert "its training was complete, then rank 0 ended with status 3); it goes on from batch 2" in lab.notices()
    with lab.reader() as reader:
        assert [run.outcome for run in reader.runs(1, 1)] == [Outcome.FAILED, Outcome.COMPLETED]


def test_workers_that_cannot_be_started_are_told_with_the_reason(lab: Any) -> None:
    experiment_id = lab.submit(lab.config(launcher="local"))
    lab.files(experiment_id).context.rename(lab.home / "gone")
    assert lab.run(experiment_id)["state"] == "ERROR"
    assert "could not be started" in the_trial(lab).message


def test_a_metric_that_validation_does_not_report_is_said_with_the_nearest(lab: Any) -> None:
    config = lab.config()
    config["searcher"]["metric"] = "los"
    summary = lab.run(lab.submit(config))
    assert (summary["state"], summary["best"]) == ("COMPLETED", None)
    assert lab.notices().count("'los'") == 1
    assert "Did you mean 'loss'?" in lab.notices()


def test_trials_write_nothing_into_the_context_of_the_user(lab: Any) -> None:
    before = sorted(lab.context.iterdir())
    lab.trial()
    assert sorted(lab.context.iterdir()) == before


@pytest.mark.parametrize("damaged", [1, 3])
def test_damaged_checkpoints_are_marked_and_the_one_before_is_gone_on_from(lab: Any, damaged: int) -> None:
    undisturbed = lab.trial(length=8)
    experiment_id = lab.submit(lab.config(length=8, do="hold", at=6, in_runs=[1], launcher="local"))
    process = lab.start(experiment_id)
    lab.wait_until_holding(experiment_id)
    process.kill()
    process.communicate(timeout=60)
    with lab.reader() as reader:
        saved = reader.checkpoints(experiment_id)
    assert [row.batches for row in saved] == [2, 4, 6]
    for row in saved[-damaged:]:
        (lab.files(experiment_id).checkpoints / row.uuid / "state.json").write_text("damaged")
    summary = lab.run(experiment_id)
    with lab.reader() as reader:
        states = [row.state for row in reader.checkpoints(experiment_id) if row.run == 1]
        told = [row.units for row in reader.decisions(experiment_id) if row.event == "validation_completed"]
    assert states == ["COMPLETED"] * (3 - damaged) + ["DAMAGED"] * damaged
    assert lab.notices(experiment_id).count("is damaged and was not used: not what was written") == damaged
    assert summary["best"] == undisturbed["best"] | {
        "checkpoint": summary["best"]["checkpoint"],
        "hyperparameters": summary["best"]["hyperparameters"],
    }
    assert lab.values(experiment_id) == lab.values(1)
    assert told == [2, 4, 6, 8]


@pytest.mark.parametrize("launcher", ["inline", "local"])
@pytest.mark.parametrize("message", ["cannot be written: No space left on device. Make room.", "Disk quota exceeded"])
def test_a_full_disk_pauses_the_experiment_and_activate_goes_on_when_there_is_room(
    lab: Any, launcher: str, message: str
) -> None:
    lab.trial(length=8)
    experiment_id = lab.submit(
        lab.config(length=8, launcher=launcher, do="raise", at=5, in_runs=[1, 2], message=message)
    )
    for _ in range(2):
        summary = lab.run(experiment_id)
        assert (summary["state"], summary["trials"][0]["state"]) == ("PAUSED", "PAUSED")
        with lab.reader() as reader:
            assert reader.experiment(experiment_id).message == f"ValueError: {message}"
    assert "the experiment is paused: activated again, it goes on from batch 4" in lab.notices(experiment_id)
    summary = lab.run(experiment_id)
    assert (summary["state"], summary["trials"][0]["restarts"]) == ("COMPLETED", 0)
    assert lab.values(experiment_id) == lab.values(1)


def test_of_several_last_words_the_first_failure_is_the_cause(lab: Any) -> None:
    config = lab.config(launcher="local", do="raise_and_say_done", at=3) | {"max_restarts": 0}
    assert lab.run(lab.submit(config))["state"] == "ERROR"
    assert the_trial(lab).message == "ValueError: the cause"


def test_a_checkpoint_beyond_the_start_of_a_later_run_is_not_gone_on_from(lab: Any) -> None:
    """It could not be read then, so that run left its past."""
    experiment_id = lab.submit(lab.config(length=8, launcher="local", do="hold", at=6, in_runs=[1]))
    process = lab.start(experiment_id)
    lab.wait_until_holding(experiment_id)
    process.kill()
    process.communicate(timeout=60)
    with lab.reader() as reader, open_store(lab.home) as store, store.transaction() as transaction:
        (run,) = reader.runs(experiment_id, 1)
        transaction.put_run(experiment_id, replace(run, ended=1.0))
        transaction.put_run(experiment_id, replace(run, run=2, start_batches=4, backend="cpu", ended=2.0))
        transaction.put_run(experiment_id, replace(run, run=3, start_batches=0, backend="", ended=3.0))
    (trial,) = api.plan(experiment_id, home=lab.home).trials
    assert (trial.action, trial.batches) == ("continue", 4)
