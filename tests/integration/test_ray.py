"""Whole experiments on a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from mnist_trials.testing.waiting import wait_until
from tests.integration.support import DEADLINE, ROOT, Command
from tests.plugins.launchers.ray_cluster import ELSEWHERE, RayCluster, shared

A_THIRD = "127.0.0.3"


@pytest.fixture
def cluster(command: Command) -> RayCluster:
    """A cluster that the command finds by itself."""
    if find_spec("ray") is None:
        pytest.skip("needs Ray: pip install 'mnist-trials[ray]'")
    cluster = shared()
    command.environment["RAY_ADDRESS"] = cluster.address
    return cluster


def on_ray(**options: Any) -> dict[str, Any]:
    return {"name": "ray", "address": "auto", **options}


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_two_ranks_on_ray_compute_what_two_local_ones_do(command: Command, written: Callable[..., Path]) -> None:
    changes: dict[str, Any] = {"resources": {"slots_per_trial": 2}}
    locally = command.json("create", written(**changes))
    remotely = command.json("create", written(launcher=on_ray(), **changes))
    assert remotely["state"] == "COMPLETED"
    assert remotely["best"]["metrics"] == locally["best"]["metrics"]
    assert "[rank=1] " not in command("logs", "1.1").stdout + command("logs", "2.1").stdout


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_a_search_makes_the_same_trials_and_metrics_by_every_launcher(command: Command) -> None:
    small = ["data.name=digits", "searcher.max_trials=3", "searcher.max_length={batches: 16}", "searcher.max_rungs=2"]
    small += ["searcher.mode=aggressive", "searcher.divisor=2"]
    small += ["hyperparameters.n_filters1=4", "hyperparameters.n_filters2=4"]
    small += ["searcher.max_concurrent_trials=1"]  # else who reports first decides who is stopped
    arguments = [word for change in small for word in ("--config", change)]
    documents = [
        command.json(
            "create", ROOT / "experiment_configs" / "adaptive.yaml", *arguments, "--launcher", launcher, "--slots", 2
        )
        for launcher in ("inline", "local", "ray")
    ]
    inline, local, ray = ([_as_the_search_sees_it(trial) for trial in document["trials"]] for document in documents)
    assert len(inline) == 3
    assert any(trial["stopped_early"] for trial in inline)
    assert inline == local == ray
    for trial in range(1, 4):
        first, second, third = (_validations(command, f"{experiment}.{trial}") for experiment in (1, 2, 3))
        assert first == second == third


@pytest.mark.slow
def test_a_trial_whose_node_dies_goes_on_elsewhere_from_its_checkpoint(
    cluster: RayCluster, command: Command, written: Callable[..., Path], tmp_path: Path
) -> None:
    config = written(
        launcher=on_ray(cpus_per_slot=3),  # more than the head has
        searcher={"name": "single", "metric": "validation_loss", "max_length": {"batches": 3000}},
        min_validation_period={"batches": 1500},
        min_checkpoint_period={"batches": 200},
        checkpoint_storage={"type": "shared_fs", "host_path": str(tmp_path)},
    )
    with cluster.another(ELSEWHERE, cpus=3) as node, command.running("create", config, "--json") as controller:
        wait_until(lambda: controller.poll() is not None or (command.home.exists() and _checkpoints(command)), DEADLINE)
        cluster.kill(node)
        with cluster.another(A_THIRD, cpus=3):
            _, said = controller.communicate(timeout=120)
    summary = command.json("describe", 1)
    assert controller.returncode == 0, said
    (trial,) = summary["trials"]
    assert (trial["restarts"], trial["batches"]) == (1, 3000)
    assert f"node {ELSEWHERE} (" in said
    assert "it goes on from batch " in said


def test_a_cluster_of_several_machines_needs_a_storage_that_all_of_them_reach(
    cluster: RayCluster, command: Command, written: Callable[..., Path]
) -> None:
    with cluster.another(ELSEWHERE):
        refused = command("create", written(launcher=on_ray()), status=2)
    assert "the launcher 'ray' may run trials on other machines" in refused.stderr


def _as_the_search_sees_it(trial: dict[str, Any]) -> dict[str, Any]:
    # One that is stopped may train a batch or two more before it hears of it.
    left_out = {"latest_checkpoint", *(("batches", "epochs") if trial["stopped_early"] else ())}
    return {key: value for key, value in trial.items() if key not in left_out}


def _validations(command: Command, trial: str) -> list[Any]:
    rows = command.json("metrics", trial)
    return [(row["batches"], row["metrics"]) for row in rows if row["kind"] == "validation"]


def _checkpoints(command: Command) -> bool:
    experiments = command.json("list")
    return bool(experiments) and bool(command.json("checkpoints", 1))


@pytest.mark.slow
def test_a_detached_experiment_is_run_by_a_ray_job(command: Command, written: Callable[..., Path]) -> None:
    if find_spec("ray") is None:
        pytest.skip("needs Ray: pip install 'mnist-trials[ray]'")
    cluster = RayCluster(dashboard=True)
    try:
        command.environment["RAY_ADDRESS"] = cluster.address
        detached = command("create", written(launcher=on_ray()), "--detach")
        assert "raysubmit_" in detached.stdout + detached.stderr
        assert command.json("wait", 1)["state"] == "COMPLETED"
    finally:
        cluster.stop()
