"""`preview-search`."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

CONFIG = """
entrypoint: nowhere:Nothing
hyperparameters: {lr: {type: double, minval: 0.0, maxval: 1.0}}
searcher:
  name: adaptive_asha
  metric: accuracy
  max_trials: 20
  max_length: {epochs: 16}
"""

KEYS = ["searcher", "trials", "max_concurrent_trials", "brackets", "lengths", "unit", "total_units"]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "search.yaml"
    path.write_text(CONFIG)
    return path


def test_json_has_the_plan_and_nothing_is_stored(cli, config: Path, home: Path) -> None:
    outcome = cli("preview-search", config, "--json")
    assert outcome.status == 0
    document = outcome.document
    assert list(document) == KEYS
    assert (document["searcher"], document["trials"], document["unit"]) == ("adaptive_asha", 20, "epochs")
    assert [bracket["rungs"] for bracket in document["brackets"]] == [[1, 4, 16], [4, 16]]
    assert all(set(bracket) == {"rungs", "trials", "max_concurrent_trials"} for bracket in document["brackets"])
    assert document["total_units"] == sum(entry["units"] * entry["trials"] for entry in document["lengths"])
    assert not home.exists()


def test_json_has_the_estimate_where_it_is_asked_for(cli, config: Path) -> None:
    document = cli("preview-search", config, "--json", "--seconds-per-unit", "1.5", "--slots", "4").document
    assert list(document) == [*KEYS, "estimated_seconds"]
    assert document["estimated_seconds"] >= document["total_units"] * 1.5 / 4


def test_the_table_can_be_read(cli, config: Path) -> None:
    lines = cli("preview-search", config, "--seconds-per-unit", "60", "--slots", "4").out.splitlines()
    assert lines[0] == "adaptive_asha: 20 trials, at most 16 at once, 68 epochs in all"
    assert lines[1].split() == ["bracket", "at", "once", "rung", "epochs", "trials", "end", "there"]
    assert lines[2].split() == ["0", "8", "0", "1", "15", "12"]
    assert "All brackets together:" in lines
    assert lines[-1].startswith("Training takes about ")
    assert " on 4 slots." in lines[-1]


def test_one_trial_is_no_trials(cli, config: Path) -> None:
    out = cli("preview-search", config, "--config", "searcher={name: single, metric: loss, max_length: 8}").out
    assert out.splitlines()[0] == "single: 1 trial, at most 1 at once, 8 batches in all"
    assert "All brackets" not in out


def test_on_a_terminal_the_table_has_lines(config: Path, home: Path) -> None:
    ours, theirs = pty.openpty()
    try:
        subprocess.run(
            [sys.executable, "-m", "mnist_trials", "preview-search", str(config)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm", "PYTHONIOENCODING": "utf-8", "COLUMNS": "100"},
            timeout=60,
            check=True,
        )
        shown = os.read(ours, 100_000).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert "│" in shown
    assert "end there" in shown


def test_warnings_and_notes_do_not_disturb_the_document(cli, config: Path) -> None:
    outcome = cli(
        *("preview-search", config, "--json", "--config", "hyperparameters.lr={type: int, minval: 1, maxval: 3}"),
    )
    assert outcome.document["trials"] == 20
    assert "warning: " in outcome.err
    assert "searcher.smaller_is_better" in outcome.err
    assert "note: The hyperparameters have only 3 different points" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--slots", "2"], "takes both --seconds-per-unit and --slots"),
        (["--seconds-per-unit", "2"], "takes both --seconds-per-unit and --slots"),
        (["--seconds-per-unit", "0", "--slots", "2"], "takes a number above 0, not '0'"),
        (["--seconds-per-unit", "inf", "--slots", "2"], "takes a number above 0, not 'inf'"),
        (["--seconds-per-unit", "fast", "--slots", "2"], "takes a number above 0, not 'fast'"),
        (["--seconds-per-unit", "1", "--slots", "0"], "takes a whole number of at least 1, not '0'"),
        (["--config", "searcher.name=rendom"], "Did you mean 'random'?"),
        (
            ["--config", "searcher={name: random, metric: loss, max_trials: 2}", "--config", "entrypoint=python3 a.py"],
            "does not tell how long a trial trains",
        ),
        (["--config", "searcher.max_length=0"], "max_length"),
    ],
)
def test_what_cannot_be_told_is_bad_usage(cli, config: Path, arguments: list[str], said: str) -> None:
    outcome = cli("preview-search", config, *arguments)
    assert outcome.status == 2
    assert said in outcome.err
    assert outcome.out == ""


def test_one_unit_is_told_as_one(cli, config: Path) -> None:
    config.write_text(CONFIG.replace("adaptive_asha", "single").replace("  max_trials: 20\n", "").replace("16", "1"))
    lines = cli("preview-search", config, "--config", "hyperparameters.lr=0.5").out.splitlines()
    assert lines[0] == "single: 1 trial, at most 1 at once, 1 epoch in all"
