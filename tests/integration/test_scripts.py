"""The project that `init` writes: its train.py runs by itself and in an experiment, on one slot and on two."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.integration.support import DEADLINE, Command


@pytest.fixture
def project(command: Command) -> Command:
    command("init", "project")
    command.cwd = command.cwd / "project"
    return command


LAYER = "-m mnist_trials.launch.torch_distributed"


def run(project: Command, *words: str) -> str:
    """What Python says when it is run with `words` in the project."""
    outcome = subprocess.run(
        [sys.executable, *words],
        cwd=project.cwd,
        env=project.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stderr
    return outcome.stdout


def test_its_train_py_runs_as_a_plain_script(project: Command) -> None:
    assert "validation_loss" in run(project, "train.py", "--epochs", "1")
    assert not (project.home / "store.sqlite").exists()


@pytest.mark.slow
def test_its_train_py_runs_as_a_plain_script_on_two_slots(project: Command) -> None:
    printed = run(project, *LAYER.split(), "--slots", "2", "python3", "train.py", "--epochs", "1")
    (validation,) = [line for line in printed.splitlines() if "validation_loss" in line and "After" not in line]
    assert validation.startswith("[rank=0] validation")
    assert printed.count("After ") == 1
    assert not (project.home / "store.sqlite").exists()


def test_its_distributed_yaml_trains_one_trial_on_two_slots(project: Command) -> None:
    document = project.json("create", "distributed.yaml", "--config", "searcher.max_length={batches: 12}")
    assert document["state"] == "COMPLETED"
    (trial,) = document["trials"]
    assert (trial["batches"], trial["restarts"]) == (12, 0)
    assert project.json("evaluate", trial["latest_checkpoint"])


@pytest.mark.slow
def test_its_train_py_runs_unchanged_as_an_entrypoint_on_every_slot(project: Command) -> None:
    entrypoint = f"entrypoint=python3 {LAYER} python3 train.py --epochs 1"
    document = project.json("create", "distributed.yaml", "--config", entrypoint)
    (trial,) = document["trials"]
    assert (document["state"], trial["epochs"]) == ("COMPLETED", 1.0)
    (said,) = [line for line in project("logs", "1.1").stdout.splitlines() if "After" in line]
    assert said.startswith("[rank=0] ")


@pytest.mark.slow
def test_its_train_py_runs_unchanged_as_an_entrypoint(project: Command) -> None:
    document = project.json("create", "const.yaml", "--config", "entrypoint=python3 train.py --epochs 1")
    assert document["state"] == "COMPLETED"
    (trial,) = document["trials"]
    assert trial["epochs"] == 1.0
    assert trial["latest_checkpoint"]
    assert project.json("metrics", "1.1")
