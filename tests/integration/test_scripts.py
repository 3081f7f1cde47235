"""The project that `init` writes: one train.py, run as a plain script and, unchanged, as a command entrypoint."""

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


def test_its_train_py_runs_as_a_plain_script(project: Command) -> None:
    outcome = subprocess.run(
        [sys.executable, "train.py", "--epochs", "1"],
        cwd=project.cwd,
        env=project.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stderr
    assert "validation_loss" in outcome.stdout
    assert not (project.home / "store.sqlite").exists()


def test_its_train_py_runs_unchanged_as_an_entrypoint(project: Command) -> None:
    document = project.json("create", "const.yaml", "--config", "entrypoint=python3 train.py --epochs 1")
    assert document["state"] == "COMPLETED"
    (trial,) = document["trials"]
    assert trial["epochs"] == 1.0
    assert trial["latest_checkpoint"]
    assert project.json("metrics", "1.1")
