"""The backend `xla`: what it says without its library, and on virtual devices of the CPU, in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from mnist_trials.errors import PluginError
from mnist_trials.plugin import ExecutionSettings
from mnist_trials_plugins.backends import xla
from mnist_trials_plugins.backends.xla import XlaBackend

HERE = Path(__file__).parent
DEADLINE = 300  # seconds

needs_xla = pytest.mark.skipif(xla.why_not() is not None, reason=f"no PyTorch/XLA here: {xla.why_not()}")


def settings(**more: Any) -> ExecutionSettings:
    given = {"slots": XlaBackend({"device": "CPU"}).slots(1), "precision": "fp32", "compile": False, "seed": 1}
    return ExecutionSettings(**{**given, "deterministic": False, **more})


@pytest.fixture(autouse=True)
def _no_device_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PJRT_DEVICE", raising=False)


def test_slots_on_the_cpu_are_shares_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(5)))
    slots = XlaBackend({}).slots(2)
    assert [(slot.id, slot.threads, slot.shares_cores) for slot in slots] == [("xla:0", 3, True), ("xla:1", 2, True)]
    variables = XlaBackend({}).environment(slots)
    assert variables["PJRT_DEVICE"] == "CPU"
    assert variables["CPU_NUM_DEVICES"] == "2"
    assert variables["NPROC"] == "5"


def test_slots_of_another_device_are_as_many_as_the_config_says() -> None:
    backend = XlaBackend({"device": "tt", "devices": 4, "visible": "TT_VISIBLE_DEVICES", "env": {"XLA_FLAG": 1}})
    slots = backend.slots(None)
    assert [slot.id for slot in slots] == ["tt:0", "tt:1", "tt:2", "tt:3"]
    assert not any(slot.shares_cores for slot in slots)
    variables = backend.environment(slots[1:3])
    assert variables["PJRT_DEVICE"] == "TT"
    assert variables["TT_VISIBLE_DEVICES"] == "1,2"
    assert variables["XLA_FLAG"] == "1"
    with pytest.raises(PluginError, match=r"told of 4 devices of the kind TT, not 5; `devices: 5`"):
        backend.slots(5)


def test_the_device_is_that_of_the_variable_where_the_config_names_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PJRT_DEVICE", "TPU")
    (slot,) = XlaBackend({}).slots(None)
    assert slot.id == "tpu:0"
    assert XlaBackend({}).environment([slot])["TPU_VISIBLE_CHIPS"] == "0"


def test_variables_of_the_config_go_before_those_of_the_backend() -> None:
    backend = XlaBackend({"env": {"NPROC": 7, "XLA_ALWAYS_ALLREDUCE": True}})
    assert backend.environment(backend.slots(1))["NPROC"] == "7"
    assert backend.environment(backend.slots(1))["XLA_ALWAYS_ALLREDUCE"] == "1"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"devise": "CPU"}, "does not take 'devise'. Did you mean 'device'?"),
        ({"device": "TT", "devices": 0}, "'devices' of the backend 'xla' must be a whole number of at least 1, not 0"),
        ({"device": "TT", "devices": True}, "must be a whole number"),
        ({"devices": 2}, "so 'devices' is for other devices; leave it out"),
        ({"env": ["A=1"]}, "'env' of the backend 'xla' is a map of variables"),
        ({"env": {"A B": 1}}, "'A B' is no name of a variable"),
        ({"env": {"A": [1]}}, "'env.A' of the backend 'xla' must be text or a number, not [1]"),
        ({"visible": ""}, "'visible' of the backend 'xla' must be text"),
    ],
)
def test_a_wrong_option_is_refused_with_what_is_right(options: dict[str, Any], said: str) -> None:
    with pytest.raises(PluginError) as told:
        XlaBackend(options)
    assert said in str(told.value)


@pytest.mark.parametrize("scale", ["dynamic", 128.0])
def test_losses_are_not_scaled(scale: Any) -> None:
    with pytest.raises(PluginError, match="does not scale losses"):
        XlaBackend({}).open(settings(loss_scale=scale))


def test_half_precision_is_refused_before_the_library_is_imported() -> None:
    with pytest.raises(PluginError, match=r"do not train in float16\. Use precision fp32, bf16-mixed or bf16-true"):
        XlaBackend({}).open(settings(precision="fp16-mixed"))
    assert "torch_xla" not in sys.modules


def test_a_library_that_is_not_there_or_of_another_torch_is_told_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    versions = {"torch_xla": "2.9.0", "torch": "2.13.0"}
    monkeypatch.setattr(xla, "find_spec", lambda name: object())
    monkeypatch.setattr(xla, "version", versions.__getitem__)
    assert "torch_xla 2.9.0 works with torch 2.9 only, and here is torch 2.13.0" in str(xla.why_not())
    assert "python: PATH" in str(xla.why_not())
    versions["torch"] = "2.9.1"
    assert xla.why_not() is None
    monkeypatch.setattr(xla, "find_spec", lambda name: None)
    assert xla.why_not() == "torch_xla is not installed: pip install 'mnist-trials[xla]'"
    with pytest.raises(PluginError, match="cannot be used: torch_xla is not installed"):
        XlaBackend({}).open(settings())


def run(task: str, *arguments: str, folder: Path, variables: dict[str, str] | None = None) -> dict[str, Any]:
    """What `xla_target.py` found in a process of its own."""
    report = folder / "report.json"
    done = subprocess.run(
        [sys.executable, HERE / "xla_target.py", task, report, *arguments],
        env={**os.environ, "MNIST_TRIALS_HOME": str(folder), **(variables or {})},
        cwd=HERE.parent.parent.parent,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(report.read_text())
    return {**found, "out": done.stdout, "err": done.stderr}


@needs_xla
def test_training_on_a_device_is_that_on_the_cpu_and_compiles_no_more_after_the_first_epoch(tmp_path: Path) -> None:
    found = run("train", "1", "1", "20", folder=tmp_path)
    require_parity(found, run("train", "0", "1", "20", folder=tmp_path))
    first, *others = found["compilations"]
    assert first > 0
    assert set(others) == {first}
    assert found["seconds"] > 0
    # 20 batches, and 4 validations of 16: it is read at reports, validations and checkpoints, not after every batch.
    assert len(found["reads_by_batch"]) == 20 + 4 * 16
    assert sum(now > before for before, now in pairwise(found["reads_by_batch"])) < 4 * 3
    assert "GSPMD" not in found["err"]
    assert any("`compile: true` has no effect on the backend 'xla'" in text for text in found["notices"])


@needs_xla
@pytest.mark.slow
@pytest.mark.parametrize(("data", "tensor", "shard"), [(2, 1, ""), (1, 2, ""), (2, 1, "shard")])
def test_meshes_train_as_one_cpu_does(tmp_path: Path, data: int, tensor: int, shard: str) -> None:
    found = run("train", str(data), str(tensor), "20", *([shard] if shard else []), folder=tmp_path)
    require_parity(found, run("train", "0", "1", "20", folder=tmp_path))
    first, *others = found["compilations"]
    assert set(others) == {first}
    whole = ["{replicated}"]
    assert (sorted(set(found["layouts"].values())) == whole) is (tensor == 1 and not shard)
    assert found["layouts"] == found["states"]
    assert found["err"] == ""


@needs_xla
@pytest.mark.slow
def test_checkpoints_go_from_the_cpu_to_a_mesh_and_back_unchanged(tmp_path: Path) -> None:
    first = run("save", "0", "1", folder=tmp_path)
    for data, tensor in (("1", "2"), ("2", "1"), ("1", "1"), ("0", "1")):
        again = run("restore", data, tensor, first["checkpoint"], folder=tmp_path)
        assert again["digest"] == first["digest"], (data, tensor)


@needs_xla
@pytest.mark.slow
def test_a_resumed_training_is_the_one_that_was_not_interrupted(tmp_path: Path) -> None:
    whole = run("resume", "whole", folder=tmp_path)
    halves = run("resume", "halves", folder=tmp_path)
    assert whole["weights"] == halves["weights"]
    assert whole["metrics"] == halves["metrics"]


@needs_xla
@pytest.mark.slow
@pytest.mark.timeout(4 * DEADLINE)
def test_the_suite_of_backends_passes() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE / "xla_suite.py")],
        cwd=HERE.parent.parent.parent,
        capture_output=True,
        text=True,
        timeout=3 * DEADLINE,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


@needs_xla
@pytest.mark.slow
def test_a_plugin_of_another_device_is_honoured_through_its_entry_point(tmp_path: Path) -> None:
    """A distribution whose plugin has a library that is not there: what is said is what its loader says."""
    package = tmp_path / "site"
    (package / "fake_pjrt-1.0.dist-info").mkdir(parents=True)
    (package / "fake_pjrt-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: fake-pjrt\nVersion: 1\n"
    )
    (package / "fake_pjrt-1.0.dist-info" / "entry_points.txt").write_text(
        "[torch_xla.plugins]\nfake = fake_pjrt:Plugin\n"
    )
    (package / "fake_pjrt.py").write_text(
        "import os\n"
        "from torch_xla.experimental import plugins\n"
        "class Plugin(plugins.DevicePlugin):\n"
        "    def library_path(self):\n"
        "        return '/nowhere/of-' + os.environ['FAKE_CHIP'] + '.so'\n"
    )
    found = run("open", "FAKE", "7", folder=tmp_path, variables={"PYTHONPATH": str(package)})
    assert "There is no XLA device of the kind FAKE here" in found["refused"]
    assert "/nowhere/of-7.so" in found["refused"]
    assert "No PjRtPlugin registered" in run("open", "OTHER", "7", folder=tmp_path)["refused"]


def require_parity(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert len(found["losses"]) == len(expected["losses"])
    assert found["losses"] == pytest.approx(expected["losses"], abs=1e-6, rel=1e-6)
    assert found["metrics"] == pytest.approx(expected["metrics"], abs=1e-6, rel=1e-6)
    assert found["weights"].keys() == expected["weights"].keys()
    for name, values in expected["weights"].items():
        assert found["weights"][name] == pytest.approx(values, abs=1e-6), name
