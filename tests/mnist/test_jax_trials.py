"""The trials of the JAX and Flax references, in a process that uses jax."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

DEADLINE = 240.0
CONFIGS = Path(__file__).parents[2] / "experiment_configs"


def create(config: str, home: Path, *changes: str) -> dict[str, Any]:
    """What `create --json` printed of an experiment on fake data, two epochs of 2,048 images."""
    overrides = ["searcher.max_length.epochs=2", "data.fake=true", "data.train_ratio=0.5", *changes]
    command = [sys.executable, "-m", "mnist_trials", "--home", str(home), "create", str(CONFIGS / config), "--json"]
    command += [part for override in overrides for part in ("--config", override)]
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(home / "programs")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_the_configs_train_test_and_evaluate(tmp_path: Path) -> None:
    document = create("flax_mlp.yaml", tmp_path, "hyperparameters.activation=none")
    best = document["best"]
    assert document["state"] == "COMPLETED"
    assert document["trials"][0]["batches"] == 8
    assert set(best["metrics"]) == {"validation_loss", "accuracy", "test_loss", "test_accuracy"}
    shown = [sys.executable, "-m", "mnist_trials", "--home", str(tmp_path), "metrics", "1.1", "--json"]
    rows = json.loads(subprocess.run(shown, capture_output=True, text=True, timeout=DEADLINE, check=True).stdout)
    assert [set(row["metrics"]) for row in rows if row["kind"] == "test"] == [{"test_loss", "test_accuracy"}]
    command = [sys.executable, "-m", "mnist_trials", "--home", str(tmp_path), "evaluate", best["checkpoint"], "--json"]
    done = subprocess.run([*command, "--split", "test"], capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["metrics"]["accuracy"] == pytest.approx(best["metrics"]["test_accuracy"])


@pytest.mark.slow
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two slots need two cores")
def test_two_slots_give_the_numbers_of_one(tmp_path: Path) -> None:
    alone = create("jax_mlp.yaml", tmp_path / "alone", "hyperparameters.learning_rate=0.1")
    both = create("jax_data_parallel.yaml", tmp_path / "both", "hyperparameters.learning_rate=0.1")
    assert both["best"]["metrics"] == pytest.approx(alone["best"]["metrics"], abs=1e-6)


def test_the_models_are_those_of_the_references() -> None:
    code = (
        "import jax, json; from mnist_trials.mnist import jax_trials as t; "
        "params = t.init_mlp(jax.random.key(0)); x = jax.numpy.ones((3, 784)); "
        "flat = t.MLP(hidden_size=16, activation=t.ACTIVATIONS['none']); "
        "variables = flat.init(jax.random.key(0), x); "
        "print(json.dumps([[list(l['weight'].shape) + [float(l['weight'].var() * l['weight'].shape[0]), "
        "float(abs(l['bias']).max())] for l in params], list(t.apply_mlp(params, x).shape), "
        "float(abs(flat.apply(variables, 2 * x) - 2 * flat.apply(variables, x)).max())]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=DEADLINE, check=True)
    layers, logits, nonlinear = json.loads(done.stdout)
    assert [layer[:2] for layer in layers] == [[784, 128], [128, 128], [128, 10]]
    assert [layer[2] for layer in layers] == pytest.approx([1.0] * 3, abs=0.1)  # Lecun: the variance is 1 / inputs
    assert {layer[3] for layer in layers} == {0.0}
    assert logits == [3, 10]
    assert nonlinear < 1e-5
