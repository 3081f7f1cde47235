"""What the whole-product tests share: the command in a home of its own, waiting, and where real MNIST lies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
NEARBY = ROOT.parent / "shared" / "mnist"
DEADLINE = 240


def mnist_root() -> Path | None:
    named = os.environ.get("MNIST_TRIALS_DATA")
    root = Path(named) if named else NEARBY
    return root if (root / "MNIST" / "raw" / "train-images-idx3-ubyte").exists() else None


needs_mnist = pytest.mark.skipif(
    mnist_root() is None, reason="real MNIST is not here: name its folder with MNIST_TRIALS_DATA"
)


class Command:
    """`mnist-trials` as a person runs it, in a home of its own."""

    def __init__(self, home: Path, cwd: Path) -> None:
        self.home = home
        self.cwd = cwd
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith("MNIST_TRIALS_")
        } | {"MNIST_TRIALS_HOME": str(home), "OMP_NUM_THREADS": "1"}

    def arguments(self, *arguments: object) -> list[str]:
        return [sys.executable, "-m", "mnist_trials", *map(str, arguments)]

    def __call__(
        self, *arguments: object, status: int = 0, variables: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        outcome = subprocess.run(
            self.arguments(*arguments),
            cwd=self.cwd,
            env=self.environment | (variables or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        assert outcome.returncode == status, f"{arguments}\n{outcome.stdout}\n{outcome.stderr}"
        return outcome

    def json(self, *arguments: object, status: int = 0, variables: Mapping[str, str] | None = None) -> Any:
        def refuse(constant: str) -> None:
            raise AssertionError(f"{constant} is not strict JSON")

        return json.loads(self(*arguments, "--json", status=status, variables=variables).stdout, parse_constant=refuse)

    @contextmanager
    def running(self, *arguments: object) -> Iterator[subprocess.Popen[str]]:
        """The command at work in the background; killed at the end if it is not done by then."""
        with subprocess.Popen(
            self.arguments(*arguments),
            cwd=self.cwd,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()


def experiment_config(**changes: Any) -> dict[str, Any]:
    """A small, quick experiment on the bundled digits, 15 batches an epoch."""
    return {
        "name": "test",
        "entrypoint": "mnist_trials.mnist.trials:FCMNIST",
        "hyperparameters": {"hidden_sizes": [32], "optimizer": "sgd", "learning_rate": 0.1, "global_batch_size": 100},
        "data": {"name": "digits"},
        "searcher": {"name": "single", "metric": "validation_loss", "max_length": {"epochs": 4}},
        "min_validation_period": {"epochs": 1},
        "min_checkpoint_period": {"batches": 10},
        "scheduling_unit": 5,
    } | changes


def write_config(folder: Path, **changes: Any) -> Path:
    """`experiment_config(**changes)` as a file (JSON, which is YAML)."""
    path = folder / "experiment.yaml"
    path.write_text(json.dumps(experiment_config(**changes), indent=1))
    return path
