"""Launchers that have slots of their own, on machines that this one knows nothing of."""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from mnist_trials.errors import ConfigError
from mnist_trials.experiment import api
from mnist_trials.experiment.lock import controller_lock
from mnist_trials.store import Holdings, open_store
from mnist_trials.store.rows import LeaseRow


@pytest.fixture
def launcher(lab: Any) -> Any:
    """The class of the launcher, which remembers what it was asked for."""
    module = importlib.import_module("elsewhere")
    module.install()
    module.Elsewhere.asked.clear()
    module.Elsewhere.detached.clear()
    return module.Elsewhere


def config(lab: Any, hosts: dict[str, int], **changes: Any) -> dict[str, Any]:
    backend = changes.pop("backend", "cpu")
    document = lab.config(
        launcher={"name": "elsewhere", "hosts": hosts, "backend": backend, **changes.pop("with_", {})}
    )
    storage = {"type": "shared_fs", "host_path": str(lab.home.parent)}
    return document | {"checkpoint_storage": storage, "backend": backend} | changes


def refused(lab: Any, document: dict[str, Any], **options: Any) -> str:
    with pytest.raises(ConfigError) as told:
        lab.submit(document, **options)
    return str(told.value)


def spec(lab: Any, rank: int = 0, experiment_id: int = 1) -> dict[str, Any]:
    path = Path(lab.files(experiment_id).trial(1), f"worker-rank{rank}.json")
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def test_its_slots_are_used_though_all_of_this_machine_are_held(lab: Any, launcher: Any) -> None:
    holder = lab.submit()
    held = tuple(
        LeaseRow(unit=f"cpu.{core}", experiment_id=holder, trial_id=1, run=1)
        for core in range(len(os.sched_getaffinity(0)))
    )
    with controller_lock(lab.files(holder).lock, holder):
        with open_store(lab.home) as store, store.transaction() as transaction:
            transaction.take_leases(held)
        experiment_id = lab.submit(config(lab, {"far": 64}, checkpoint_storage={}))
        assert lab.run(experiment_id)["state"] == "COMPLETED"
        with lab.reader() as reader:
            assert reader.holdings() == Holdings(held)
    assert set(launcher.asked) == {("cpu", 1, 1)}
    told = spec(lab, experiment_id=experiment_id)
    assert (told["slots"][0]["host"], told["size"]) == ("far", 1)


@pytest.mark.parametrize(
    ("resources", "given", "asked"),
    [
        ({"slots_per_trial": 3}, None, ("cpu", 3, 3)),
        ({"slots_per_trial": 3}, 7, ("cpu", 7, 3)),
        ({"slots_per_trial": 3, "max_slots": 5}, 7, ("cpu", 5, 3)),
        ({"slots_per_trial": "auto", "max_slots": 5}, None, ("cpu", 5, 1)),
        ({"slots_per_trial": "auto"}, 4, ("cpu", 4, 1)),
    ],
)
def test_it_is_asked_for_as_many_as_the_experiment_can_use(
    lab: Any, launcher: Any, resources: dict[str, Any], given: int | None, asked: tuple[str, int, int]
) -> None:
    lab.submit(config(lab, {"far": 64}, resources=resources), slots=given)
    assert launcher.asked[-1] == asked


def test_auto_is_all_that_it_has_and_is_single_node_reaches_the_workers(lab: Any, launcher: Any) -> None:
    resources = {"slots_per_trial": "auto", "is_single_node": True}
    lab.run(lab.submit(config(lab, {"far": 2}, resources=resources)))
    assert (spec(lab)["size"], spec(lab, 1)["slots"][0]["id"]) == (2, "cpu:1")
    assert spec(lab)["config"]["resources"]["is_single_node"] is True


def test_what_can_never_fit_is_refused_with_what_is_there(lab: Any, launcher: Any) -> None:
    resources = {"slots_per_trial": 3}
    told = refused(lab, config(lab, {"a": 1, "b": 1}, resources=resources))
    assert "a trial takes 3 slots, but there are 2: cpu:0 (far of a), cpu:0 (far of b)" in told
    told = refused(lab, config(lab, {"a": 2, "b": 2}, resources=resources | {"is_single_node": True}))
    assert "a trial takes 3 slots on one machine ('resources.is_single_node'), but none has more than 2" in told
    assert "a trial takes 1 slots, but there are 0: none" in refused(lab, config(lab, {"far": 0}))


def test_devices_are_looked_for_where_the_workers_run(lab: Any, launcher: Any) -> None:
    lab.submit(config(lab, {"far": 2}, backend="cuda"))
    document = config(lab, {"far": 2}, backend="cuda") | {"backend": "auto"}
    lab.submit(document)
    assert launcher.asked[-1] == ("cuda", 1, 1)
    assert "the cluster has no cuda" in refused(lab, config(lab, {"far": 2}) | {"backend": "cuda"})


@pytest.mark.parametrize(
    ("given", "place", "storage"),
    [
        ("", "const.yaml:10:3: ", "'directory' (the default)"),
        ("checkpoint_storage: {type: directory, container_path: /x}\n", "const.yaml:12:21: ", "'directory'"),
    ],
)
def test_checkpoints_that_other_machines_cannot_reach_are_refused_at_their_place(
    lab: Any, launcher: Any, given: str, place: str, storage: str
) -> None:
    file = lab.context / "const.yaml"
    text = """\
entrypoint: fake_trial:Fake
hyperparameters: {}
searcher:
  name: single
  metric: loss
  max_length: {batches: 4}
backend: cpu
name: far
launcher:
  name: elsewhere
  hosts: {a: 1, b: 1}
"""
    file.write_text(text + given)
    told = refused(lab, file)
    assert place in told
    assert f"may run trials on other machines, which cannot reach the checkpoint storage {storage} of this one" in told
    assert "shared_fs" in told
    file.write_text(text.replace(", b: 1", "") + given)
    lab.submit(file)


@pytest.mark.slow
def test_a_controller_that_the_launcher_runs_is_waited_for_until_it_is_in_charge(lab: Any, launcher: Any) -> None:
    experiment_id = lab.submit(config(lab, {"far": 1}, with_={"job": "job 7"}, hyperparameters={"do": "hold", "at": 1}))
    assert api.detach(experiment_id, home=lab.home) == "job 7"
    assert api.is_alive(experiment_id, home=lab.home)
    lab.wait_until_holding(experiment_id)
    api.request(experiment_id, "pause", home=lab.home)
    assert api.wait(experiment_id, home=lab.home, timeout=60)["state"] == "PAUSED"
    assert api.detach(experiment_id, home=lab.home) == "job 7"
    (lab.files(experiment_id).trial(1) / "go").touch()
    assert api.wait(experiment_id, home=lab.home, timeout=60)["state"] == "COMPLETED"
    assert [job.wait(timeout=60) for job in launcher.detached] == [0, 0]
