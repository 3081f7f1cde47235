"""Processes are killed with SIGKILL or paused in mid-training; the experiment ends as an undisturbed one does."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from mnist_trials.testing.waiting import wait_until
from tests.integration.support import DEADLINE, Command, experiment_config

Write = Callable[..., Path]
Validations = list[tuple[int, dict[str, float]]]


def validations(command: Command, trial: str) -> Validations:
    rows = command.json("metrics", trial)
    return [(row["batches"], row["metrics"]) for row in rows if row["kind"] == "validation"]


def worker_of(command: Command, experiment: int) -> int:
    """The process id of the trial of `experiment`, once a checkpoint of it lies on the disk."""
    wait_until(lambda: any(command.home.glob(f"checkpoints/{experiment}/*/manifest.json")), DEADLINE)
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"mnist_trials.worker" in arguments and any(str(command.home).encode() in part for part in arguments):
            return int(entry.name)
    raise AssertionError("no worker of this home is running")


CONFIG = experiment_config(
    searcher={"name": "single", "metric": "validation_loss", "max_length": {"epochs": 30}},
    min_validation_period={"epochs": 10},
    min_checkpoint_period={"batches": 50},
)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Validations:
    """The validations of the experiment when nobody disturbs it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    command = Command(folder / "home", folder)
    (folder / "experiment.yaml").write_text(json.dumps(CONFIG))
    assert command.json("create", "experiment.yaml")["state"] == "COMPLETED"
    return validations(command, "1.1")


@pytest.fixture
def config(written: Write) -> Path:
    return written(**CONFIG)


def test_a_killed_worker_is_started_again_and_ends_with_the_same_numbers(
    command: Command, config: Path, undisturbed: Validations
) -> None:
    with command.running("create", config, "--json") as running:
        os.kill(worker_of(command, 1), signal.SIGKILL)
        running.communicate(timeout=DEADLINE)
        assert running.returncode == 0
    document = command.json("describe", 1)
    assert document["trials"][0]["restarts"] == 1
    assert validations(command, "1.1") == undisturbed


def test_a_killed_controller_leaves_nothing_running_and_activate_goes_on(
    command: Command, config: Path, undisturbed: Validations
) -> None:
    with command.running("create", config, "--json") as running:
        worker = worker_of(command, 1)
        running.kill()
        running.communicate(timeout=DEADLINE)
    wait_until(lambda: not Path(f"/proc/{worker}").exists(), DEADLINE)
    assert "1 trial" in command("activate", 1, "--dry-run").stdout
    assert command.json("activate", 1)["state"] == "COMPLETED"
    assert validations(command, "1.1") == undisturbed


@pytest.mark.slow
def test_ctrl_c_saves_and_going_on_changes_no_number(command: Command, config: Path, undisturbed: Validations) -> None:
    with command.running("create", config) as running:
        worker_of(command, 1)
        running.send_signal(signal.SIGINT)
        output, errors = running.communicate(timeout=DEADLINE)
        assert running.returncode == 130
        assert "mnist-trials activate 1" in output + errors
    assert command.json("describe", 1)["state"] == "PAUSED"
    assert command.json("activate", 1)["state"] == "COMPLETED"
    assert validations(command, "1.1") == undisturbed
