"""The backend `cuda`: how it finds devices (anywhere), and what it does with one (where there is one)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mnist_trials.errors import PluginError
from mnist_trials.testing import BackendSuite
from mnist_trials_plugins.backends import cuda
from mnist_trials_plugins.backends.cuda import CudaBackend, Device, parse_listing, visible_devices, why_none

UNAVAILABLE = why_none()


@pytest.mark.cuda
@pytest.mark.skipif(UNAVAILABLE is not None, reason=f"{UNAVAILABLE}")
class TestCuda(BackendSuite):
    plugin = "cuda"


LISTING = """\
GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-aaaa)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-bbbb)
  MIG 1g.5gb      Device  0: (UUID: MIG-1111)
  MIG 2g.10gb     Device  1: (UUID: MIG-2222)
GPU 2: NVIDIA H100 80GB HBM3 (UUID: GPU-cccc)
"""
DEVICES = [
    Device("GPU-aaaa", "NVIDIA H100 80GB HBM3"),
    Device("MIG-1111", "NVIDIA A100-SXM4-40GB MIG 1g.5gb"),
    Device("MIG-2222", "NVIDIA A100-SXM4-40GB MIG 2g.10gb"),
    Device("GPU-cccc", "NVIDIA H100 80GB HBM3"),
]


def test_the_listing_of_the_tool_is_read_and_a_split_device_is_its_parts() -> None:
    assert parse_listing(LISTING) == DEVICES
    assert parse_listing("") == []
    assert parse_listing("NVIDIA-SMI has failed\n") == []


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose `nvidia-smi -L` prints LISTING."""
    script = tmp_path / "nvidia-smi"
    script.write_text(f"#!/bin/sh\ncat <<'END'\n{LISTING}END\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return script


def test_every_device_is_a_slot_and_its_worker_sees_it_alone(tool: Path) -> None:
    backend = CudaBackend({})
    slots = backend.slots(None)
    assert [slot.description for slot in slots] == [device.name for device in DEVICES]
    assert [slot.id for slot in slots] == ["cuda:0", "cuda:1", "cuda:2", "cuda:3"]
    assert [backend.environment((slot,))["CUDA_VISIBLE_DEVICES"] for slot in slots] == [d.selector for d in DEVICES]
    assert "CUBLAS_WORKSPACE_CONFIG" in backend.environment(slots[:1])


@pytest.mark.parametrize(
    ("visible", "selectors"),
    [
        ("0", ["0"]),
        ("3,0", ["3", "0"]),
        ("GPU-cc,MIG-1111", ["GPU-cc", "MIG-1111"]),
        ("0,-1,1", ["0"]),
        ("0,9,1", ["0"]),
        ("", []),
        ("NoDevFiles", []),
    ],
)
def test_the_variable_chooses_devices_as_it_does_for_any_program(
    tool: Path, monkeypatch: pytest.MonkeyPatch, visible: str, selectors: list[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [device.selector for device in visible_devices()] == selectors
    assert [CudaBackend({}).environment((s,))["CUDA_VISIBLE_DEVICES"] for s in CudaBackend({}).slots(None)] == selectors


def test_devices_that_a_variable_hides_are_said_to_be_hidden(tool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert why_none() is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert why_none() == "CUDA_VISIBLE_DEVICES='' hides every CUDA device"
    with pytest.raises(PluginError, match=r"0 CUDA devices, not 1 .*hides"):
        CudaBackend({}).slots(1)


def test_more_slots_than_devices_names_those_there_are(tool: Path) -> None:
    with pytest.raises(PluginError, match="offers 4 CUDA devices, not 5: NVIDIA H100"):
        CudaBackend({}).slots(5)


def test_a_tool_that_fails_means_no_device(tool: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cuda, "_DRIVER", tmp_path / "nothing")
    for script in ("#!/bin/sh\nexit 9\n", "#!/bin/sh\necho NVIDIA-SMI has failed\n", "no program\n"):
        tool.write_text(script)
        assert CudaBackend({}).slots(None) == ()
    assert why_none() == "there is no CUDA device here, or no NVIDIA driver"


def test_without_the_tool_the_drivers_own_files_are_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(cuda, "_DRIVER", tmp_path)
    for bus, minor in (("0000:01", 0), ("0000:02", 1)):
        (tmp_path / bus).mkdir()
        (tmp_path / bus / "information").write_text(f"Model: \t\t NVIDIA H100\nIRQ: 5\nDevice Minor: \t {minor}\n")
    monkeypatch.setattr(os, "access", lambda path, mode: path == "/dev/nvidia1")
    assert visible_devices() == [Device("0", "NVIDIA H100")]


@pytest.mark.skipif(UNAVAILABLE is None, reason="there is a CUDA device here")
def test_opening_a_device_that_is_not_there_says_what_to_do(tool: Path) -> None:
    from mnist_trials.plugin import ExecutionSettings

    settings = ExecutionSettings(
        slots=CudaBackend({}).slots(1), precision="fp32", compile=False, deterministic=False, seed=1
    )
    with pytest.raises(PluginError, match=r"finds no CUDA device here.*Use `backend: cpu`"):
        CudaBackend({}).open(settings)


def test_an_option_is_refused() -> None:
    with pytest.raises(PluginError, match="does not take 'device'"):
        CudaBackend({"device": 1})
