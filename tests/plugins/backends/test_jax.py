"""The backend `jax` as the controller sees it, and the tests that every backend passes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest

from mnist_trials.errors import PluginError
from mnist_trials_plugins.backends import jax
from mnist_trials_plugins.backends.jax import JaxBackend

DEADLINE = 120.0


def test_one_process_drives_all_slots_which_are_shares_of_the_cores() -> None:
    backend = JaxBackend({})
    slots = backend.slots(1)
    assert backend.one_process
    assert backend.own_models
    assert slots[0].shares_cores
    assert slots[0].threads == len(os.sched_getaffinity(0))
    with pytest.raises(PluginError, match="not 1000000"):
        backend.slots(1_000_000)


def test_a_worker_on_cpu_slots_has_as_many_devices_and_only_their_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=9 --xla_dump_to=/tmp/x")
    slots = [jax._share_of_cores(index, 1) for index in range(3)]
    variables = JaxBackend({}).environment(slots)
    assert variables["XLA_FLAGS"] == "--xla_dump_to=/tmp/x --xla_force_host_platform_device_count=3"
    assert variables["JAX_PLATFORMS"] == "cpu"
    assert variables["NPROC"] == variables["OMP_NUM_THREADS"] == "3"


def test_variables_of_the_config_go_before_those_of_the_backend() -> None:
    backend = JaxBackend({"platform": "tt", "env": {"TT_LOG": "info", "JAX_PLATFORMS": "tt"}})
    variables = backend.environment([jax._share_of_cores(0, 1)])
    assert variables["TT_LOG"] == "info"
    assert variables["JAX_PLATFORMS"] == "tt"
    assert JaxBackend({"platform": "tt"}).environment([])["JAX_PLATFORMS"] == "tt,cpu"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"flavour": "mild"}, "flavour"),
        ({"platform": 3}, "name of one platform.*3"),
        ({"platform": "tt,cpu"}, "name of one platform"),
        ({"env": ["A"]}, "backend.env is a map"),
        ({"env": {"A": None}}, "backend.env is a map"),
    ],
)
def test_options_that_are_no_good_are_refused(options: dict[str, object], text: str) -> None:
    with pytest.raises(PluginError, match=text):
        JaxBackend(options)


def test_devices_of_another_platform_are_asked_for_in_a_process_of_its_own() -> None:
    devices = JaxBackend({"platform": "cpu2", "env": {"JAX_PLATFORMS": "cpu"}}).slots(None)
    assert [(slot.id, slot.shares_cores) for slot in devices] == [("cpu2:0", False)]
    with pytest.raises(PluginError, match=r"no platform 'nonesuch' here: .*nonesuch"):
        JaxBackend({"platform": "nonesuch"}).slots(None)


def test_slots_are_known_without_jax_and_torch() -> None:
    code = (
        "import sys; from mnist_trials_plugins.backends.jax import JaxBackend; backend = JaxBackend({}); "
        "backend.environment(backend.slots(None)); "
        "print(sorted(set(sys.modules) & {'jax', 'torch', 'flax', 'optax'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=DEADLINE, check=True)
    assert done.stdout.strip() == "[]"


def test_what_is_missing_is_said_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "_LIBRARIES", ("jax", "no_such_flax"))
    assert jax.why_not() == "no_such_flax not installed (pip install 'mnist-trials[jax]')"
    with pytest.raises(PluginError, match=r"no_such_flax not installed \(pip install"):
        JaxBackend({}).open(None)  # type: ignore[arg-type]


def test_the_extra_brings_what_jax_export_serializes_with() -> None:
    needed = [name.replace(" ", "") for name in requires("mnist-trials") or [] if "extra==" in name.replace(" ", "")]
    extra = [name for name in needed if re.search(r"""extra==['"]jax['"]""", name)]
    assert {re.split(r"[<>=;\[]", name)[0] for name in extra} == {"flatbuffers", "flax", "jax", "optax"}


def test_the_record_of_the_plugin() -> None:
    (record,) = jax.mnist_trials_backends()
    assert record.name == "jax"
    assert record.available() is None


def test_it_passes_the_tests_of_every_backend() -> None:
    suite = Path(__file__).with_name("jax_suite.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(suite)]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[3], capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    assert done.returncode == 0, done.stdout
