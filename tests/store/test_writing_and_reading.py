from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import textwrap
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from mnist_trials.errors import StoreError, UsageError
from mnist_trials.records import ErrorInfo, ExperimentState, Outcome, ProcessIdentity, TrialState
from mnist_trials.store import Store, open_reader, open_store


def test_rows_come_back_as_they_were_written(with_trial: Store, home: Path, make: Any) -> None:
    error = ErrorInfo(type="ValueError", message="no", traceback="Traceback ...", batches=3, retryable=False)
    trial = make.trial(
        state=TrialState.ERROR,
        batches=3,
        epochs=0.3,
        records=12,
        total_batches=10,
        restarts=1,
        stopped_early=True,
        dataset="mnist",
        dataset_fallback=True,
        best_metric=0.5,
        best_batches=2,
        best_metrics={"loss": 0.5, "accuracy": None},
        best_checkpoint="b",
        latest_checkpoint="l",
        error=error,
        message="why",
        judged_batches=2,
        stop_requested=True,
        until=4,
        resting=True,
        source_trial=1,
        source_batches=2,
    )
    run = make.run(
        outcome=Outcome.FAILED,
        start_batches=1,
        batches=3,
        exit_codes=(1, None),
        error=error,
        ended=9.0,
        processes=(ProcessIdentity(pid=4, start_time="55", boot_id="x"),),
    )
    for row in (trial, run):  # a column that is forgotten would come back as the default
        assert [field.name for field in fields(row) if getattr(row, field.name) == field.default] == []
    with with_trial.transaction() as transaction:
        transaction.put_trial(trial)
        transaction.put_run(1, run)
        transaction.add_metrics(1, make.metric(2, 0.5))
        transaction.put_checkpoint(make.checkpoint("abc"))
        transaction.add_notice(1, None, "of all")
        transaction.add_notice(1, 1, "of one")
        transaction.add_decision(1, 1, "validation_completed", [{"action": "Stop", "trial_id": 1}], units=2, metric=0.5)
        failed = transaction.add_decision(1, 1, "trial_failed", [], reason="invalid_hp")
        assert transaction.save_searcher(1, {"seen": [1, 2]}, True, failed) == len('{"seen":[1,2]}')
    with open_reader(home) as reader:
        assert reader.trials(1) == [reader.trial(1, 1)] == [trial]
        assert reader.runs(1, 1) == [run]
        assert reader.metrics(1, 1) == [make.metric(2, 0.5)]
        assert reader.checkpoints(1) == [reader.checkpoint("abc")] == [make.checkpoint("abc")]
        assert [(notice.trial_id, notice.message) for notice in reader.notices(1)] == [(None, "of all"), (1, "of one")]
        decision = reader.decisions(1)[0]
        assert (decision.event, decision.units, decision.metric) == ("validation_completed", 2, 0.5)
        assert decision.actions == ({"action": "Stop", "trial_id": 1},)
        assert decision.reason == ""
        assert [row.reason for row in reader.decisions(1, after=decision.id)] == ["invalid_hp"]
        assert reader.decisions(1, after=failed) == []
        assert reader.searcher(1) == ({"seen": [1, 2]}, True, failed)


def test_a_transaction_that_raises_leaves_nothing(with_trial: Store, home: Path, make: Any) -> None:
    with pytest.raises(RuntimeError, match="cut"), with_trial.transaction() as transaction:  # noqa: PT012
        transaction.put_trial(make.trial(batches=9))
        transaction.add_metrics(1, make.metric(9, 1.0))
        transaction.add_notice(1, 1, "never")
        raise RuntimeError("cut")
    with open_reader(home) as reader:
        assert reader.trial(1, 1).batches == 0
        assert reader.metrics(1, 1) == []
        assert reader.notices(1) == []


def test_a_value_that_is_not_finite_is_refused_as_no_json(with_trial: Store, make: Any) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"), with_trial.transaction() as transaction:
        transaction.add_metrics(1, make.metric(1, float("nan")))


def test_sequence_numbers_grow_over_all_transactions_and_mark_what_each_changed(
    with_trial: Store, home: Path, make: Any
) -> None:
    seen = []
    for batches in (1, 2):
        with with_trial.transaction() as transaction:
            transaction.add_metrics(1, make.metric(batches, 1.0))
            seen.append(transaction.sequence)
    assert seen == sorted(set(seen))
    connection = sqlite3.connect(home / "store.sqlite")
    new = connection.execute("SELECT batches FROM metrics WHERE sequence > ?", (seen[0],)).fetchall()
    connection.close()
    assert new == [(2,)]


def test_metrics_beyond_the_point_a_run_goes_on_from_are_not_shown(with_trial: Store, home: Path, make: Any) -> None:
    with with_trial.transaction() as transaction:
        for batches in (1, 2, 3):
            transaction.add_metrics(1, make.metric(batches, 1.0, "training"))
        transaction.add_metrics(1, make.metric(3, 0.1))
        transaction.supersede_metrics(1, 1, 2)
        transaction.add_metrics(1, make.metric(3, 0.9, "training", number=2))
    with open_reader(home) as reader:
        shown = [(row.kind, row.batches, row.run) for row in reader.metrics(1, 1)]
    assert shown == [("training", 1, 1), ("training", 2, 1), ("training", 3, 2)]


def test_metrics_reported_again_at_the_same_point_take_the_place_of_the_first(
    with_trial: Store, home: Path, make: Any
) -> None:
    with with_trial.transaction() as transaction:
        transaction.add_metrics(1, make.metric(4, 0.5))
        transaction.add_metrics(1, make.metric(4, 0.6, "training"))
        transaction.add_metrics(1, make.metric(4, 0.7, number=2))
        assert [row.metrics["loss"] for row in transaction.validations(1, 1)] == [0.7]
    with open_reader(home) as reader:
        assert [row.metrics["loss"] for row in reader.metrics(1, 1, "validation")] == [0.7]
        assert [row.metrics["loss"] for row in reader.metrics(1, 1, "training")] == [0.6]


def test_an_experiment_goes_with_all_that_belongs_to_it_and_its_id_is_never_used_again(
    with_trial: Store, home: Path, make: Any
) -> None:
    with with_trial.transaction() as transaction:
        transaction.put_run(1, make.run())
        transaction.add_metrics(1, make.metric(1, 1.0))
        transaction.put_checkpoint(make.checkpoint("abc"))
        transaction.add_notice(1, 1, "x")
        transaction.add_command(1, "pause")
        transaction.save_searcher(1, {}, False, 0)
        transaction.add_decision(1, None, "initial_trials", [])
    with with_trial.transaction() as transaction:
        transaction.delete_experiment(1)
        assert transaction.add_experiment("two", make.config, {}) == 2
    connection = sqlite3.connect(home / "store.sqlite")
    for table in ("trials", "runs", "metrics", "checkpoints", "notices", "commands", "searchers", "decisions"):
        assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table
    connection.close()


def test_a_trial_of_no_experiment_cannot_be_stored(store: Store, make: Any) -> None:
    with pytest.raises(sqlite3.IntegrityError), store.transaction() as transaction:
        transaction.put_trial(make.trial(experiment_id=99))


def test_what_is_not_there_is_told_with_what_is(with_trial: Store, home: Path) -> None:
    with open_reader(home) as reader:
        with pytest.raises(UsageError, match=r"no experiment 7 in .*; there are: 1\."):
            reader.experiment(7)
        for ask in (reader.trials, reader.checkpoints, reader.notices, reader.decisions, reader.summary):
            with pytest.raises(UsageError, match="no experiment 7"):
                ask(7)
        with pytest.raises(UsageError, match=r"Experiment 1 has no trial 5; its trials are 1 to 1\."):
            reader.trial(1, 5)
        for ask_trial in (reader.runs, reader.metrics):
            with pytest.raises(UsageError, match="no trial 5"):
                ask_trial(1, 5)


def test_a_checkpoint_is_found_by_the_beginning_of_its_id_if_only_one_begins_so(
    with_trial: Store, home: Path, make: Any
) -> None:
    with with_trial.transaction() as transaction:
        for uuid in ("abc", "abd", "ab"):
            transaction.put_checkpoint(make.checkpoint(uuid))
    with open_reader(home) as reader:
        assert reader.checkpoint("abd").uuid == "abd"
        assert reader.checkpoint("ab").uuid == "ab"
        with pytest.raises(UsageError, match=r"'a' is the beginning of several checkpoint ids: ab, abc, abd\."):
            reader.checkpoint("a")
        for absent in ("x", "", "%", "_"):
            with pytest.raises(UsageError, match="No checkpoint"):
                reader.checkpoint(absent)


def test_commands_are_taken_once_and_in_order(with_trial: Store, home: Path) -> None:
    assert with_trial.waiting_commands(1) == []
    with open_store(home) as other:
        for command in ("pause", "kill"):
            with other.transaction() as transaction:
                transaction.add_command(1, command)
        with pytest.raises(UsageError, match="no experiment 8"), other.transaction() as transaction:
            transaction.add_command(8, "pause")
    (first, pause), (_, kill) = with_trial.waiting_commands(1)
    assert (pause, kill) == ("pause", "kill")
    with with_trial.transaction() as transaction:
        transaction.take_commands(1, first)
    assert [command for _, command in with_trial.waiting_commands(1)] == ["kill"]


def test_a_writer_notices_that_another_has_written(with_trial: Store, home: Path) -> None:
    with_trial.changed_elsewhere()
    with with_trial.transaction() as transaction:
        transaction.add_notice(1, None, "my own")
    assert not with_trial.changed_elsewhere()
    with open_store(home) as other, other.transaction() as transaction:
        transaction.add_command(1, "pause")
    assert with_trial.changed_elsewhere()
    assert not with_trial.changed_elsewhere()


def test_progress_never_goes_down_and_running_time_adds_up(with_trial: Store, home: Path) -> None:
    for progress, seconds in ((0.5, 1.0), (0.25, 2.0), (None, 0.5)):
        with with_trial.transaction() as transaction:
            transaction.update_experiment(1, progress=progress, add_seconds=seconds)
    with open_reader(home) as reader:
        row = reader.experiment(1)
    assert (row.progress, row.wall_seconds, row.state) == (0.5, 3.5, ExperimentState.ACTIVE)


def test_the_time_of_ending_is_that_of_the_last_end(with_trial: Store, home: Path) -> None:
    with open_reader(home) as reader:
        for state, ended in (("ERROR", 1000.0), ("ACTIVE", None), ("COMPLETED", 1000.0)):
            with with_trial.transaction() as transaction:
                transaction.update_experiment(1, state=ExperimentState(state), message="m")
            assert reader.experiment(1).ended == ended


def test_the_summary_is_the_document_of_the_contract(with_trial: Store, home: Path, make: Any) -> None:
    best = {"loss": 0.2, "accuracy": None}
    with with_trial.transaction() as transaction:
        transaction.put_trial(make.trial(best_metric=0.4, best_metrics={"loss": 0.4}, dataset="mnist"))
        transaction.put_trial(
            make.trial(
                trial_id=2,
                best_metric=0.2,
                best_metrics=best,
                best_checkpoint="u",
                dataset="mnist",
                batches=7,
                latest_checkpoint="u",
            )
        )
        transaction.put_trial(make.trial(trial_id=3))
        transaction.put_trial(make.trial(trial_id=4, best_metric=0.2, best_metrics=best))
    with open_reader(home) as reader:
        summary = reader.summary(1)
    json.dumps(summary, allow_nan=False)
    assert list(summary) == ["experiment_id", "name", "state", "dataset", "trials", "best", "wall_seconds"]
    assert summary["experiment_id"] == 1
    assert (summary["name"], summary["state"], summary["dataset"]) == ("one", "ACTIVE", "mnist")
    assert [trial["trial_id"] for trial in summary["trials"]] == [1, 2, 3, 4]
    assert summary["trials"][1] == {
        "trial_id": 2,
        "state": "QUEUED",
        "hyperparameters": {"lr": 0.1, "layers": [1, 2]},
        "batches": 7,
        "epochs": 0.0,
        "restarts": 0,
        "stopped_early": False,
        "best_metric": 0.2,
        "latest_checkpoint": "u",
    }
    assert summary["best"] == {
        "trial_id": 2,
        "metric": "loss",
        "value": 0.2,
        "metrics": best,
        "hyperparameters": {"lr": 0.1, "layers": [1, 2]},
        "checkpoint": "u",
    }


def test_the_best_of_no_finite_metric_is_none_and_of_larger_is_better_the_largest(
    store: Store, home: Path, make: Any
) -> None:
    config = {"searcher": {"metric": "accuracy", "smaller_is_better": False}}
    with store.transaction() as transaction:
        transaction.add_experiment("one", config, {})
        transaction.put_trial(make.trial())
    with open_reader(home) as reader:
        assert reader.summary(1)["best"] is None
        with store.transaction() as transaction:
            transaction.put_trial(make.trial(best_metric=0.1))
            transaction.put_trial(make.trial(trial_id=2, best_metric=0.9))
        assert reader.summary(1)["best"]["trial_id"] == 2


@pytest.mark.parametrize("power_cut", [True, False])
def test_an_acknowledged_transaction_outlives_sigkill(home: Path, power_cut: bool) -> None:
    open_store(home).close()
    code = textwrap.dedent(
        f"""
        from pathlib import Path
        from mnist_trials.store import open_store
        with open_store(Path({str(home)!r})) as store:
            while True:
                with store.transaction(power_cut={power_cut}) as transaction:
                    number = transaction.add_experiment("x", {{}}, {{}})
                print(number, flush=True)
        """
    )
    acknowledged = 0
    for count in (1, 7, 23, 40):
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(count):
                acknowledged = int(process.stdout.readline())
            process.send_signal(signal.SIGKILL)
            acknowledged = max([acknowledged, *(int(line) for line in process.stdout if line.endswith("\n"))])
        with open_reader(home) as reader:
            ids = [row.id for row in reader.experiments()]
        assert ids == list(range(1, len(ids) + 1))
        assert len(ids) - acknowledged in (0, 1)


def test_a_second_writer_waits_for_the_first(with_trial: Store, home: Path) -> None:
    code = textwrap.dedent(
        f"""
        from pathlib import Path
        from mnist_trials.store import open_store
        with open_store(Path({str(home)!r})) as store:
            print("open", flush=True)
            with store.transaction() as transaction:
                transaction.add_notice(1, None, "second")
        """
    )
    with with_trial.transaction() as transaction:
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        transaction.add_notice(1, None, "first")
    assert process.wait(timeout=60) == 0
    process.stdout.close()
    with open_reader(home) as reader:
        assert [notice.message for notice in reader.notices(1)] == ["first", "second"]


def test_a_reader_sees_one_state_while_a_writer_is_at_work(with_trial: Store, home: Path, make: Any) -> None:
    with open_reader(home) as reader, with_trial.transaction() as transaction:
        transaction.put_trial(make.trial(batches=5))
        assert reader.trial(1, 1).batches == 0
        assert reader.summary(1)["trials"][0]["batches"] == 0


def test_a_store_kept_locked_is_told(home: Path, with_trial: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnist_trials.store.connection._BUSY_SECONDS", 0.05)
    with (
        open_store(home) as other,
        with_trial.transaction(),
        pytest.raises(StoreError, match="another process has kept it locked"),
        other.transaction(),
    ):
        pass


def test_half_a_character_in_a_text_is_kept_as_its_escape(with_trial: Store, home: Path) -> None:
    with with_trial.transaction() as transaction:
        transaction.add_notice(1, 1, "half a \ud83d smile")
    with open_reader(home) as reader:
        assert reader.notices(1)[-1].message == "half a \\ud83d smile"


def test_an_experiment_gets_a_number_above_the_one_given_and_never_an_old_one(store: Store) -> None:
    ids = []
    for above in (0, 7, 0, 3):
        with store.transaction() as transaction:
            ids.append(transaction.add_experiment("x", {}, {}, above=above))
    assert ids == [1, 8, 9, 10]
