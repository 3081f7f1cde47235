"""The configs of the torch reference on the CPU and on XLA devices, by one key; what a person sees of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mnist_trials_plugins.backends.xla import why_not
from tests.integration.support import ROOT, Command

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(why_not() is not None, reason=f"no PyTorch/XLA here: {why_not()}"),
]

CONFIGS = ROOT / "experiment_configs"
DATA_PARALLEL, TENSOR_PARALLEL = "linear_data_parallel.yaml", "linear_tensor_parallel.yaml"
SHORT = {
    "searcher.max_length": "{batches: 20}",
    "min_validation_period": "null",
    "scheduling_unit": "1",
    "data.name": "digits",
}


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path / "home", tmp_path)


def created(command: Command, config: Path, *more: str, **changes: str) -> dict[str, Any]:
    changes = {**SHORT, **changes}
    given = [part for key, value in changes.items() for part in ("--config", f"{key}={value}")]
    document: dict[str, Any] = json.loads(command("create", config, ROOT, "--json", *given, *more).stdout)
    assert document["state"] == "COMPLETED"
    return document


def losses(command: Command, document: dict[str, Any]) -> list[float]:
    rows = json.loads(command("metrics", f"{document['experiment_id']}.1", "--json").stdout)
    found: list[float] = [row["metrics"]["loss"] for row in rows if "loss" in row["metrics"]]
    return found


@pytest.mark.parametrize("name", ["linear.yaml", DATA_PARALLEL, TENSOR_PARALLEL])
def test_a_config_of_the_reference_gives_the_same_on_the_cpu_and_on_xla(command: Command, name: str) -> None:
    config = CONFIGS / name
    documents = [created(command, config, backend=backend) for backend in ("cpu", "xla")]
    first, second = (losses(command, document) for document in documents)
    assert len(first) == 20
    assert second == pytest.approx(first, abs=1e-5)
    metrics = [document["best"]["metrics"] for document in documents]
    assert metrics[1] == pytest.approx(metrics[0], abs=1e-4)


def test_the_convolutional_one_trains_on_xla(command: Command) -> None:
    """Without dropout, whose numbers are another device's: with it only the course of things can be compared."""
    changes = {
        "hyperparameters.dropout1": "0.0",
        "hyperparameters.dropout2": "0.0",
        "searcher.max_length": "{batches: 6}",
    }
    documents = [created(command, CONFIGS / "cnn.yaml", **changes, backend=backend) for backend in ("cpu", "xla")]
    first, second = (losses(command, document) for document in documents)
    assert second == pytest.approx(first, abs=1e-5)
    assert len(first) == 6


def test_one_process_has_all_slots_of_a_trial_and_a_batch_that_does_not_divide_is_told(command: Command) -> None:
    config = CONFIGS / DATA_PARALLEL
    document = created(command, config, backend="xla")
    described = json.loads(command("trials", document["experiment_id"], "--json").stdout)
    assert len(described) == 1
    log = command("logs", f"{document['experiment_id']}.1").stdout
    assert "[rank=1]" not in log
    changes = {**SHORT, "backend": "xla", "hyperparameters.global_batch_size": "63"}
    given = [part for key, value in changes.items() for part in ("--config", f"{key}={value}")]
    failed = command("create", config, ROOT, *given, "--config", "max_restarts=0", status=1)
    assert "63 samples cannot be split evenly over 2 slots. Use 62 or 64" in failed.stdout + failed.stderr
    checkpoint = document["best"]["checkpoint"]
    evaluated = json.loads(command("evaluate", checkpoint, "--json").stdout)
    assert evaluated["metrics"]["validation_loss"] == pytest.approx(
        document["best"]["metrics"]["validation_loss"], abs=1e-5
    )
