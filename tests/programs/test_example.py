"""What the documentation shows: examples/popxl_mlp.py as a person starts it, and the Python of docs/programs.md."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent.parent
MNIST = ROOT.parent / "shared" / "mnist"
_ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "MNIST_TRIALS_DATA"}


def example(home: Path, *arguments: str, **environment: str) -> str:
    outcome = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "examples" / "popxl_mlp.py"), *arguments],
        cwd=home.parent,
        env={**_ENVIRONMENT, "MNIST_TRIALS_HOME": str(home), "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    return outcome.stdout


def test_two_programs_train_and_test_on_the_bundled_digits(home: Path) -> None:
    arguments = [
        "--batch-size",
        "16",
        "--test-batch-size",
        "40",
        "--epochs",
        "2",
        "--lr",
        "0.1",
        "--limit-batches",
        "60",
    ]
    printed = example(home, *arguments, CXX="no-such-compiler")
    assert "digits" in printed
    losses = [float(loss) for loss in re.findall(r"average loss ([\d.]+)", printed)]
    assert len(losses) == 2
    assert losses[1] < losses[0]
    accuracy = re.search(r"Accuracy on test set: ([\d.]+)%", printed)
    assert accuracy
    assert float(accuracy[1]) > 20


@pytest.mark.usefixtures("no_compiler")
def test_the_python_of_the_page_about_programs_runs() -> None:
    page = (ROOT / "docs" / "programs.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    torch.manual_seed(0)
    exec(block, {})


@pytest.mark.slow
@pytest.mark.skipif(not MNIST.is_dir(), reason=f"needs MNIST in {MNIST}")
def test_one_epoch_of_mnist_reaches_nine_tenths(home: Path) -> None:
    printed = example(home, "--data-root", str(MNIST))
    accuracy = re.search(r"Accuracy on test set: ([\d.]+)%", printed)
    assert accuracy
    assert float(accuracy[1]) >= 90
