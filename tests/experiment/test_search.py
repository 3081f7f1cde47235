"""What a searcher decides is carried out, in order, and written down."""

from __future__ import annotations

import importlib
import itertools
from typing import Any

import pytest

from mnist_trials.errors import ConfigError
from mnist_trials.records import ExperimentState, Outcome


@pytest.fixture(autouse=True)
def scripted(lab: Any) -> None:
    importlib.import_module("scripted_searcher").install()


def search(lab: Any, slots: int = 1, launcher: str = "inline", length: int = 6, **script: Any) -> dict[str, Any]:
    """Run a search of `script`; returns the summary."""
    config = lab.config(length=length, launcher=launcher, lr={"type": "double", "minval": 0.0, "maxval": 1.0})
    config["hyperparameters"] |= script.pop("hparams", {})
    config["searcher"] |= {"name": "scripted", **script}
    return lab.run(lab.submit(config, slots=slots))  # type: ignore[no-any-return]


def decisions(lab: Any) -> list[tuple[str, int | None, list[Any]]]:
    with lab.reader() as reader:
        return [(row.event, row.trial_id, list(row.actions)) for row in reader.decisions(1)]


def test_trials_are_numbered_as_they_are_made_with_hyperparameters_of_their_number(lab: Any) -> None:
    summary = search(lab, trials=3)
    assert [trial["trial_id"] for trial in summary["trials"]] == [1, 2, 3]
    again = search(lab, trials=3)
    rates = [trial["hyperparameters"]["lr"] for trial in summary["trials"]]
    assert [trial["hyperparameters"]["lr"] for trial in again["trials"]] == rates
    assert len(set(rates)) == 3
    with lab.reader() as reader:
        seeds = [row.seed for row in reader.trials(1)]
        assert [row.seed for row in reader.trials(2)] == seeds
        assert len(set(seeds)) == 3
    assert decisions(lab)[0] == (
        "initial_trials",
        None,
        [{"action": "Create", "trial_id": number} for number in (1, 2, 3)],
    )


def test_trials_beyond_the_slots_wait_for_their_turn(lab: Any) -> None:
    summary = search(lab, trials=3, launcher="local")
    assert [trial["state"] for trial in summary["trials"]] == ["COMPLETED"] * 3
    with lab.reader() as reader:
        runs = [reader.runs(1, number)[0] for number in (1, 2, 3)]
    assert all(earlier.ended <= later.started for earlier, later in itertools.pairwise(runs))


def test_trials_run_side_by_side_on_several_slots(lab: Any) -> None:
    together: set[int] = set()
    most = 0

    def count(event: Any) -> None:
        nonlocal most
        name = type(event).__name__
        if name == "TrialStarted":
            together.add(event.trial_id)
            most = max(most, len(together))
            for number in together if len(together) == 2 else ():  # let them go on once both are there
                (lab.files(1).trial(number) / "go").touch()
        if name == "WorkersExited":
            together.discard(event.trial_id)

    config = lab.config(launcher="local", do="hold", at=0)
    config["searcher"] |= {"name": "scripted", "trials": 2}
    follower = importlib.import_module("recording_logger").Recording(count)
    assert lab.run(lab.submit(config, slots=2), [follower])["state"] == "COMPLETED"
    assert most == 2


def test_no_more_trials_run_at_once_than_the_config_allows(lab: Any) -> None:
    config = lab.config(launcher="local")
    config["searcher"] |= {"name": "scripted", "trials": 3, "max_concurrent_trials": 1}
    lab.run(lab.submit(config, slots=2))
    with lab.reader() as reader:
        runs = [reader.runs(1, number)[0] for number in (1, 2, 3)]
    assert all(earlier.ended <= later.started for earlier, later in itertools.pairwise(runs))


@pytest.mark.parametrize(("launcher", "possible"), [("inline", {2}), ("local", {2, 3})])
def test_a_running_trial_that_is_stopped_saves_its_state_and_counts_as_completed(
    lab: Any, launcher: str, possible: set[int]
) -> None:
    # In a process of its own the request may come right after the first validation, at batch 2, or in the hold there.
    hold = {"do": "hold", "at": 2}
    summary = search(lab, trials=1, launcher=launcher, stop={"1": [1]}, hparams=hold)
    (trial,) = summary["trials"]
    assert (trial["state"], trial["stopped_early"]) == ("COMPLETED", True)
    assert trial["batches"] in possible
    with lab.reader() as reader:
        assert reader.runs(1, 1)[0].outcome is Outcome.STOPPED
        assert reader.checkpoints(1)[-1].batches == trial["batches"]
    assert [name for name, _, _ in decisions(lab)] == ["initial_trials", "validation_completed", "trial_exited"]


def test_a_trial_that_fails_when_it_is_to_end_counts_as_stopped_and_a_person_is_told(lab: Any) -> None:
    wait = {"do": "wait_and_raise", "at": 2, "message": "no place to save"}
    (trial,) = search(lab, trials=1, launcher="local", stop={"1": [1]}, hparams=wait)["trials"]
    assert (trial["state"], trial["stopped_early"]) == ("COMPLETED", True)
    assert "failed at batch 2 when it was to end (ValueError: no place to save)" in lab.notices()


def test_a_searcher_that_cannot_begin_is_refused_before_anything_is_stored(lab: Any) -> None:
    config = lab.config()
    config["searcher"] |= {"name": "scripted", "wrong": "start"}
    with pytest.raises(ConfigError, match=r"\(Scripted\) failed in initial_trials: RuntimeError: no idea"):
        lab.submit(config)
    with lab.reader() as reader:
        assert reader.experiments() == []


def test_a_waiting_trial_that_is_stopped_ends_at_once_and_the_searcher_is_told(lab: Any) -> None:
    summary = search(lab, trials=3, stop={"1": [2, 3]})
    assert [trial["stopped_early"] for trial in summary["trials"]] == [False, True, True]
    assert [trial["batches"] for trial in summary["trials"]] == [6, 0, 0]
    told = decisions(lab)
    assert told[1][2] == [{"action": "Stop", "trial_id": 2}, {"action": "Stop", "trial_id": 3}]
    assert [(name, trial) for name, trial, _ in told[2:4]] == [("trial_exited", 2), ("trial_exited", 3)]


def test_stopping_a_trial_that_has_ended_changes_nothing(lab: Any) -> None:
    summary = search(lab, trials=2, stop={"2": [1]})
    assert [trial["stopped_early"] for trial in summary["trials"]] == [False, False]


def test_a_failed_trial_can_be_replaced_and_its_reason_is_told(lab: Any) -> None:
    summary = search(lab, trials=1, replace=1, hparams={"do": "invalid", "at": 0})
    assert [trial["state"] for trial in summary["trials"]] == ["ERROR", "COMPLETED"]
    assert summary["trials"][1]["hyperparameters"] == {"replaces": 1, "reason": "invalid_hp"}
    assert summary["state"] == "COMPLETED"


def test_an_experiment_whose_trials_all_failed_is_an_error(lab: Any) -> None:
    summary = search(lab, trials=2, hparams={"do": "invalid", "at": 0})
    assert (summary["state"], [trial["state"] for trial in summary["trials"]]) == ("ERROR", ["ERROR", "ERROR"])


def test_after_a_restart_the_searcher_is_not_told_of_a_validation_twice(lab: Any) -> None:
    search(lab, trials=1, length=8, hparams={"do": "raise", "at": 5, "in_runs": [1], "save_every": 8})
    with lab.reader() as reader:
        told = [row.units for row in reader.decisions(1) if row.event == "validation_completed"]
        assert len(reader.runs(1, 1)) == 2
    assert told == [2, 4, 6, 8]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("raise", "The searcher 'scripted' failed in validation_completed: RuntimeError: not my day"),
        ("exit", "The searcher 'scripted' failed in validation_completed: SystemExit: enough"),
        ("rubbish", "returned 'Stop': not an action"),
        ("nothing", "returned 0: not a list of actions"),
        ("threshold", "a threshold must be a number, and None where it is not finite"),
        ("words", "a threshold must be a number, and None where it is not finite"),
        ("late", "The searcher 'scripted' failed in validation_completed: ZeroDivisionError"),
        ("why", "why must be a sentence"),
        ("progress", "says that its progress is 'half': not a number"),
        ("progress raises", "The searcher 'scripted' failed in progress: RuntimeError: far from done"),
        ("shape", "has a snapshot that is no mapping: None"),
        ("points", "The searcher 'scripted' failed in validate_at: ZeroDivisionError"),
        ("nan", "has a snapshot that is no strict JSON"),
        ("hparams", "made hyperparameters that are no strict JSON"),
    ],
)
@pytest.mark.parametrize("launcher", ["inline", "local"])
def test_a_searcher_that_breaks_the_rules_ends_the_experiment_in_error_with_its_name(
    lab: Any, wrong: str, told: str, launcher: str
) -> None:
    summary = search(lab, trials=2, wrong=wrong, launcher=launcher)
    assert summary["state"] == "ERROR"
    assert [trial["state"] for trial in summary["trials"]] == ["CANCELED", "CANCELED"]
    with lab.reader() as reader:
        row = reader.experiment(1)
        assert reader.open_runs(1) == []
    assert row.state is ExperimentState.ERROR
    assert told in row.message
    assert "'scripted'" in row.message


def test_a_searcher_that_makes_no_trial_is_an_error(lab: Any) -> None:
    assert search(lab, wrong="none")["state"] == "ERROR"
    with lab.reader() as reader:
        assert reader.experiment(1).message == "the searcher created no trial"
