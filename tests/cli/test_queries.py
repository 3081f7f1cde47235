"""`list`, `describe`, `trials`, `metrics`, `checkpoints` on a store that is there."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from types import SimpleNamespace

import pytest

from mnist_trials.records import Histogram
from mnist_trials.store import open_store
from mnist_trials.store.rows import HistogramRow
from mnist_trials.training.measures.performance import Performance

CREATE_KEYS = {"experiment_id", "name", "state", "dataset", "trials", "best", "wall_seconds"}
TRIAL_KEYS = {
    "trial_id",
    "state",
    "hyperparameters",
    "batches",
    "epochs",
    "restarts",
    "stopped_early",
    "best_metric",
    "latest_checkpoint",
}


def test_list_of_a_home_without_a_store_says_how_to_begin_and_makes_nothing(cli, home: Path) -> None:
    outcome = cli("list")
    assert outcome.status == 0
    assert "mnist-trials init DIR" in outcome.out
    assert not home.exists()
    assert cli("list", "--json").document == []


def test_list_shows_every_experiment_on_a_line(cli, stored: Path) -> None:
    lines = cli("list").out.splitlines()
    assert lines[0].split()[:3] == ["id", "name", "state"]
    assert lines[1].split()[:6] == ["1", "digits", "COMPLETED", "1", "100", "%"]
    assert lines[2].split()[:4] == ["2", "broken", "ERROR", "2"]
    assert len(lines) == 3


def test_list_as_json_has_an_entry_per_experiment(cli, stored: Path) -> None:
    first, second = cli("list", "--json").document
    assert (first["experiment_id"], first["name"], first["state"], first["trials"]) == (1, "digits", "COMPLETED", 1)
    assert second["ended"] is not None


def test_describe_as_json_is_the_document_of_create(cli, stored: Path) -> None:
    document = cli("describe", 1, "--json").document
    assert set(document) >= CREATE_KEYS
    assert set(document["trials"][0]) >= TRIAL_KEYS
    assert document["best"]["metric"] == "validation_loss"


def test_describe_tells_state_best_and_notices(cli, stored: Path) -> None:
    text = cli("describe", 1).out
    assert "Experiment 1 (digits) COMPLETED, running time 12.3 s" in text
    assert "trial 1.1 at batch 100: validation_loss 0.05  accuracy 0.98" in text
    assert "trial 1.1: the mirror was slow" in text


def test_describe_tells_what_each_trial_died_of(cli, stored: Path) -> None:
    text = cli("describe", 2).out
    assert "trial 2.1 ended in error at batch 12: ValueError: the layer does not fit" in text
    assert "trial 2.2 ended in error" in text


def test_trials_shows_hyperparameters_as_columns(cli, stored: Path) -> None:
    header, row = cli("trials", 1).out.splitlines()
    assert header.split()[-2:] == ["lr", "hidden"]
    assert row.split()[-2:] == ["0.1", "32"]


def test_trials_as_json_holds_the_error_of_a_trial(cli, stored: Path) -> None:
    trials = cli("trials", 2, "--json").document
    assert [trial["trial_id"] for trial in trials] == [1, 2]
    assert trials[0]["error"]["type"] == "ValueError"
    assert trials[0]["hyperparameters"] == {"lr": 0.1, "hidden": 32}


def test_metrics_shows_a_value_that_was_not_finite_as_nan(cli, stored: Path) -> None:
    lines = cli("metrics", "1.1").out.splitlines()
    assert lines[0].split() == ["kind", "batches", "epochs", "loss", "validation_loss", "accuracy", "seconds"]
    assert lines[2].split() == ["training", "100", "1", "nan", "-", "-", "1.5"]


def test_metrics_as_json_has_null_for_a_value_that_was_not_finite(cli, stored: Path) -> None:
    rows = cli("metrics", "1.1", "--json").document
    assert rows[1]["metrics"] == {"loss": None}
    assert rows[1]["kind"] == "training"


def test_metrics_as_csv_tells_absent_from_not_finite(cli, stored: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(cli("metrics", "1.1", "--csv").out)))
    assert [row["loss"] for row in rows] == ["0.5", "nan", ""]
    assert rows[2]["accuracy"] == "0.98"


def test_metrics_is_either_json_or_csv(cli, stored: Path) -> None:
    outcome = cli("metrics", "1.1", "--csv", "--json")
    assert outcome.status == 2
    assert "not both" in outcome.err


def watched(home: Path) -> None:
    """Give trial 1.1 histograms, and a file about its performance."""
    facts = {"size": 4, "not_finite": 1, "minimum": -1.0, "maximum": 1.0, "mean": 0.25, "std": 0.5}
    histogram = Histogram(kind="gradients", name="fc.weight", counts=(1, 0, 2), **facts)  # type: ignore[arg-type]
    row = HistogramRow(
        trial_id=1, run=1, batches=100, epochs=1.0, records=6400, histograms=(histogram,), time=1_700_000_000.0
    )
    with open_store(home) as store, store.transaction() as transaction:
        transaction.add_histograms(1, row)


def test_metrics_shows_the_histograms_that_the_config_asked_for(cli, stored: Path) -> None:
    watched(stored)
    header, line = cli("metrics", "1.1", "--histograms").out.splitlines()
    assert header.split() == ["batches", "kind", "name", "mean", "std", "minimum", "maximum", "not", "finite"]
    assert line.split() == ["100", "gradients", "fc.weight", "0.25", "0.5", "-1", "1", "1"]


def test_histograms_as_json_have_their_bins(cli, stored: Path) -> None:
    watched(stored)
    (row,) = cli("metrics", "1.1", "--histograms", "--json").document
    assert (row["batches"], row["histograms"][0]["counts"]) == (100, [1, 0, 2])


def test_histograms_that_nobody_asked_for_are_said_to_be_a_matter_of_the_config(cli, stored: Path) -> None:
    assert "`watch`" in cli("metrics", "1.1", "--histograms").out
    assert cli("metrics", "1.1", "--histograms", "--json").document == []
    outcome = cli("metrics", "1.1", "--histograms", "--csv")
    assert (outcome.status, "not both" in outcome.err) == (2, True)


def test_trials_as_json_has_the_performance_of_a_trial_that_wrote_it(cli, stored: Path) -> None:
    assert cli("trials", 1, "--json").document[0]["performance"] is None
    folder = stored / "experiments" / "1" / "trials" / "1"
    Performance(folder, SimpleNamespace(compile_seconds=0.0, compilations=0), goes_on=False).write()  # type: ignore[arg-type]
    (trial,) = cli("trials", 1, "--json").document
    assert trial["performance"]["runs"] == 1


def test_a_trial_may_be_named_by_its_experiment_alone_where_there_is_one(cli, stored: Path) -> None:
    assert cli("metrics", "1").out == cli("metrics", "1.1").out


def test_a_trial_must_be_named_where_there_are_several(cli, stored: Path) -> None:
    outcome = cli("metrics", "2")
    assert outcome.status == 2
    assert "Experiment 2 has 2 trials; name one of them, from 2.1 to 2.2." in outcome.err


def test_checkpoints_shows_where_they_lie(cli, stored: Path) -> None:
    text = cli("checkpoints", 1).out
    assert "/checkpoints/1/11111111-aaaa-4aaa-8aaa-aaaaaaaaaaaa" in text
    assert "4.8 MB" in text
    assert [row["state"] for row in cli("checkpoints", 1, "--json").document] == ["COMPLETED", "COMPLETED"]


@pytest.mark.parametrize("command", ["describe", "trials", "metrics", "checkpoints", "logs", "wait", "delete"])
def test_an_experiment_that_is_not_there_is_told_with_those_that_are(cli, stored: Path, command: str) -> None:
    outcome = cli(command, 7)
    assert outcome.status == 2
    assert outcome.out == ""
    assert "There is no experiment 7" in outcome.err
    assert "1, 2" in outcome.err


def test_a_trial_that_is_not_there_is_told_with_those_that_are(cli, stored: Path) -> None:
    outcome = cli("metrics", "2.9")
    assert outcome.status == 2
    assert "no trial 9; its trials are 1 to 2" in outcome.err


@pytest.mark.parametrize(("command", "name"), [("describe", "x"), ("describe", "3.1"), ("metrics", "3.1.1")])
def test_a_name_that_cannot_be_one_is_told_with_an_example(cli, stored: Path, command: str, name: str) -> None:
    outcome = cli(command, name)
    assert outcome.status == 2
    assert "such as 3" in outcome.err
    assert repr(name) in outcome.err
