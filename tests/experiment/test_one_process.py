"""A backend that drives all slots of a trial from one process: what it is given, and what is checked beforehand."""

from __future__ import annotations

import os
from typing import Any

import pytest

from mnist_trials.config import ExperimentConfig, load
from mnist_trials.errors import ConfigError
from mnist_trials.experiment import api
from mnist_trials.experiment.offer import make_offer
from mnist_trials.experiment.submission import check
from mnist_trials.plugin import get_plugins
from mnist_trials_plugins.backends.cpu import CpuBackend
from mnist_trials_plugins.backends.xla import XlaBackend, why_not

needs_xla = pytest.mark.skipif(why_not() is not None, reason=f"no PyTorch/XLA here: {why_not()}")

CONFIG: dict[str, Any] = {
    "name": "one",
    "entrypoint": "fake_trial:Fake",
    "hyperparameters": {"lr": 0.1},
    "searcher": {"name": "single", "metric": "loss", "max_length": {"batches": 4}},
    "resources": {"slots_per_trial": 2},
    "backend": {"name": "xla", "device": "CPU"},
}


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})


def config_of(**more: Any) -> ExperimentConfig:
    return load({**CONFIG, **more}).config


def test_its_slots_on_the_cpu_are_shares_of_the_same_cores_as_those_of_the_backend_cpu() -> None:
    local = get_plugins().find("launcher", "local").factory({})
    offers = [
        make_offer(b.__class__.__name__, b, local, config_of(), None, 1) for b in (XlaBackend({}), CpuBackend({}))
    ]
    assert [offer.per_trial for offer in offers] == [2, 2]
    assert offers[0].units == offers[1].units == {"cpu.0", "cpu.1"}


@needs_xla
@pytest.mark.parametrize("launcher", ["local", "inline"])
@pytest.mark.parametrize("entrypoint", ["fake_trial:Fake", ["python3", "train.py"]])
def test_it_takes_several_slots_and_a_mesh_under_any_launcher_and_entrypoint(
    lab: Any, launcher: str, entrypoint: Any
) -> None:
    (lab.context / "train.py").write_text("")
    submission = check(
        {**CONFIG, "launcher": launcher, "entrypoint": entrypoint, "mesh": [1, 2]}, lab.context, home=lab.home
    )
    assert submission.warnings == ()


@needs_xla
def test_a_mesh_for_another_number_of_slots_is_refused(lab: Any) -> None:
    config = {**CONFIG, "mesh": [2, 2], "resources": {"slots_per_trial": "auto"}}
    with pytest.raises(ConfigError, match="2 x 2 = 4 slots, but a trial takes 2"):
        api.submit(config, lab.context, home=lab.home)
