"""`decisions`: every action of a searcher in a sentence, or as JSON."""

from __future__ import annotations

from pathlib import Path

import pytest

from mnist_trials.records import ErrorInfo, TrialState
from mnist_trials.store import open_store
from mnist_trials.store.rows import TrialRow
from tests.cli.written_search import CONFIG, WHY, Actions, Record, actions


def told(cli, record: Record, *options: object) -> list[str]:
    """What `decisions` prints, without the times."""
    outcome = cli("decisions", record.id, *options)
    assert outcome.status == 0, outcome.err
    return [line[21:] if line[:2] == "20" else line for line in outcome.out.splitlines()]


def test_a_stop_is_explained_by_rank_threshold_and_what_took_its_place(cli, record: Record) -> None:
    stop = {"action": "Stop", "trial_id": 3, "why": WHY}
    record.validated(3, 0.52, [stop, *actions(("Create", 12))])
    assert told(cli, record) == [
        "trial 1.3 was stopped at rung 1 (256 batches) of bracket 0: rank 5 of 9, the best 2 go on, up to 0.31; "
        "it has 0.52; trial 1.12 took its place",
        "  trial 1.12 was created: lr 1.2",
    ]


def test_where_larger_is_better_the_threshold_is_a_lower_bound(cli, home: Path, trial_row: TrialRow) -> None:
    searcher = {**CONFIG["searcher"], "smaller_is_better": False, "max_length": {"epochs": 4}}
    record = Record(home, trial_row, {**CONFIG, "searcher": searcher})
    record.trials(3)
    record.validated(3, None, [{"action": "Stop", "trial_id": 3, "why": {**WHY, "kept": 1, "units": 1}}], units=1)
    assert told(cli, record) == [
        "trial 1.3 was stopped at rung 1 (1 epoch) of bracket 0: rank 5 of 9, the best one goes on, down to 0.31; "
        "it has no finite value"
    ]


def test_the_trials_of_the_beginning_are_told_with_their_hyperparameters(cli, record: Record) -> None:
    first: Actions = [{"action": "Create", "trial_id": 1, "until": 64}, {"action": "Create", "trial_id": 2}]
    record.decided(None, "initial_trials", first)
    assert told(cli, record) == [
        "the search began",
        "  trial 1.1 was created: lr 0.1; it trains to 64 batches and is judged there",
        "  trial 1.2 was created: lr 0.2",
    ]


def test_a_pause_a_promotion_and_their_reasons_are_told(cli, record: Record) -> None:
    none_yet = {**WHY, "kept": 0, "threshold": None}
    pause = {"action": "Pause", "trial_id": 4, "why": none_yet}
    resume = {"action": "Resume", "trial_id": 2, "until": 1024, "why": WHY}
    record.validated(4, 0.4, [pause, resume])
    assert told(cli, record) == [
        "trial 1.4 was paused at rung 1 (256 batches) of bracket 0: rank 5 of 9, none goes on yet; it has 0.4; "
        "trial 1.2 went on to 1024 batches from rung 1 (256 batches) of bracket 0: rank 5 of 9, the best 2 go on, "
        "up to 0.31"
    ]


def test_a_trial_that_is_promoted_at_once_keeps_its_slots(cli, record: Record) -> None:
    pause = {"action": "Pause", "trial_id": 4, "why": WHY}
    record.validated(4, 0.1, [pause, {"action": "Resume", "trial_id": 4, "until": 1024, "why": "the best of all"}])
    assert told(cli, record) == ["trial 1.4 went on to 1024 batches without leaving its slots: the best of all"]


def test_failures_are_told_with_their_reason(cli, record: Record, trial_row: TrialRow) -> None:
    error = ErrorInfo(type="ValueError", message="too wide\nby far", traceback="", batches=3)
    record.trials(1, state=TrialState.ERROR, error=error)
    record.decided(1, "trial_failed", actions(("Create", 5)), reason="error")
    record.decided(1, "trial_failed", [], reason="invalid_hp")
    assert told(cli, record, "--all")[::2] == [
        "trial 1.1 failed for good (ValueError: too wide); trial 1.5 took its place",
        "trial 1.1 has hyperparameters that make no sense (too wide)",
    ]


def test_a_copy_is_told_with_its_source_and_its_reason(cli, record: Record) -> None:
    copy = {"action": "Create", "trial_id": 7, "source": 2, "why": "a copy of the best"}
    record.validated(6, 0.9, [{"action": "Stop", "trial_id": 6, "why": "among the worst"}, copy])
    assert told(cli, record) == [
        "trial 1.6 was stopped: among the worst; trial 1.7 took its place",
        "  trial 1.7 was created: lr 0.7; it starts with the weights of trial 1.2 (a copy of the best)",
    ]


def test_the_end_of_the_search_is_told_with_its_reason(cli, record: Record) -> None:
    record.decided(2, "trial_exited", [{"action": "Shutdown", "why": "too many trials were invalid"}])
    record.decided(3, "trial_exited", [{"action": "Shutdown"}])
    assert told(cli, record) == [
        "trial 1.2 ended; the search ended: too many trials were invalid",
        "trial 1.3 ended; the search ended",
    ]


def test_reports_without_consequences_are_counted_and_shown_on_demand(cli, record: Record) -> None:
    record.validated(1, 0.5, [])
    record.decided(1, "trial_exited", [])
    assert told(cli, record) == ["2 more on which nothing was to be done: `mnist-trials decisions 1 --all` shows them"]
    both = ["trial 1.1 had validation_loss 0.5 after 256 batches and went on", "trial 1.1 ended"]
    assert told(cli, record, "--all") == told(cli, record, "--trial", 1) == both


def test_the_decisions_about_one_trial_hold_those_that_another_caused(cli, record: Record) -> None:
    record.validated(3, 0.52, actions(("Stop", 2)))
    record.validated(4, 0.52, [])
    assert told(cli, record, "--trial", 2) == [
        "trial 1.3 had validation_loss 0.52 after 256 batches; trial 1.2 was stopped"
    ]
    assert told(cli, record, "--trial", 9) == ["Nothing has been decided yet."]
    outcome = cli("decisions", record.id, "--trial", 99)
    assert (outcome.status, outcome.out) == (2, "")
    assert "has no trial 99; its trials are 1 to 12" in outcome.err


def test_as_json_each_decision_has_its_question_and_its_actions(cli, record: Record) -> None:
    assert cli("decisions", record.id, "--json").document == {"experiment_id": 1, "decisions": []}
    stop = {"action": "Stop", "trial_id": 3, "why": {**WHY, "threshold": None}}
    record.validated(3, 0.52, [stop, *actions(("Create", 12))])
    record.decided(4, "trial_failed", [], reason="error")
    document = cli("decisions", record.id, "--json").document
    assert document["experiment_id"] == 1
    first, second = document["decisions"]
    assert first.pop("time") > 1_600_000_000
    assert first == {
        "id": 1,
        "trial_id": 3,
        "event": "validation_completed",
        "reason": "",
        "units": 256,
        "unit": "batches",
        "metric": 0.52,
        "actions": [stop, {"action": "Create", "trial_id": 12}],
    }
    assert (second["event"], second["reason"], second["units"]) == ("trial_failed", "error", None)
    assert len(cli("decisions", record.id, "--json", "--trial", "4").document["decisions"]) == 1


def test_more_decisions_than_are_read_at_once_come_in_their_order(cli, record: Record) -> None:
    with open_store(record.home) as store, store.transaction() as transaction:
        for units in range(2500):
            transaction.add_decision(record.id, 1, "validation_completed", [], units=units, metric=0.5)
    document = cli("decisions", record.id, "--json").document
    assert [decision["units"] for decision in document["decisions"]] == list(range(2500))


@pytest.mark.parametrize("trial", ["x", "1.1", "-1"])
def test_a_trial_is_named_by_its_number(cli, record: Record, trial: str) -> None:
    outcome = cli("decisions", record.id, f"--trial={trial}")
    assert outcome.status == 2
    assert f"the number of a trial within the experiment, such as 3, not '{trial}'" in outcome.err
