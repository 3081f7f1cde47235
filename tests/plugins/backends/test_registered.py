"""Which operations a kind of device has, asked of torch's dispatcher and of jax's lowering rules without any device."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch

from mnist_trials.config import PluginChoice
from mnist_trials_plugins.backends._torch.registered import without_kernel
from mnist_trials_plugins.backends.cpu import CpuBackend
from mnist_trials_plugins.backends.cuda import CudaBackend
from mnist_trials_plugins.backends.jax import JaxBackend
from mnist_trials_plugins.backends.xla import XlaBackend

COMMON = ["aten::addmm", "aten::convolution", "aten::t", "aten::_foreach_add_.List", "aten::nll_loss_backward"]


@torch.library.custom_op("registered::mine", mutates_args=(), device_types="cpu")
def mine(images: torch.Tensor) -> torch.Tensor:
    return images + 1


@pytest.mark.skipif(torch.version.cuda is None, reason="this torch was built without CUDA")
def test_cuda_lacks_what_has_a_kernel_for_the_cpu_alone() -> None:
    assert CudaBackend({}).missing([*COMMON, "registered::mine"]) == ["registered::mine"]


def test_what_is_made_of_other_operations_is_not_missing() -> None:
    assert without_kernel(["aten::convolution", "flex_attention"], "XLA") == []


@pytest.mark.parametrize(
    ("module", "operations", "missing"),
    [
        pytest.param(
            "xla:XlaBackend",
            [*COMMON, "aten::linalg_eig", "aten::_fused_adam_"],
            ["aten::linalg_eig", "aten::_fused_adam_"],
            marks=[
                pytest.mark.slow,
                pytest.mark.skipif(find_spec("torch_xla") is None, reason="torch_xla is not installed"),
            ],
        ),
        pytest.param(
            "jax:JaxBackend",
            ["dot_general", "add", "no_such_primitive"],
            ["no_such_primitive"],
            marks=pytest.mark.skipif(find_spec("jax") is None, reason="jax is not installed"),
        ),
    ],
)
def test_a_backend_tells_what_it_lacks_without_its_device(
    module: str, operations: list[str], missing: list[str]
) -> None:
    name, backend = module.split(":")
    options = {"device": "TT"} if name == "xla" else {"platform": "tpu"}
    code = (
        f"from mnist_trials_plugins.backends.{name} import {backend}; "
        f"print(list({backend}({options!r}).missing({operations!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == str(missing), done.stderr


def test_a_trial_is_tried_out_where_no_device_is_taken() -> None:
    assert CpuBackend({}).stand_in() is None
    assert CudaBackend({}).stand_in() == PluginChoice("cpu")
    assert XlaBackend({"device": "TT"}).stand_in() == PluginChoice("cpu")
    assert JaxBackend({}).stand_in() is None
    assert JaxBackend({"platform": "tpu"}).stand_in() == PluginChoice("jax", {"platform": "cpu"})
