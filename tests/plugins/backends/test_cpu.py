"""The backend `cpu`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from typing_extensions import override

import mnist_trials as mt
from mnist_trials.errors import PluginError
from mnist_trials.plugin import ExecutionSettings
from mnist_trials.testing import BackendSuite
from mnist_trials_plugins.backends import cpu
from mnist_trials_plugins.backends.cpu import CpuBackend
from tests.training.lab import Lab, Small, same


class TestCpu(BackendSuite):
    plugin = "cpu"
    meshes = ((2, 1), (1, 2))

    @pytest.mark.slow  # the trainings of tests/training/distributed stand for it
    @override
    def test_several_ranks_train_as_one_does(self, tmp_path: Path) -> None:
        super().test_several_ranks_train_as_one_does(tmp_path)


@pytest.mark.parametrize(
    ("cores", "count", "threads"),
    [(8, 1, [8]), (8, 3, [3, 3, 2]), (8, None, [1] * 8), (1, None, [1]), (5, 4, [2, 1, 1, 1])],
)
def test_cores_are_shared_evenly(
    monkeypatch: pytest.MonkeyPatch, cores: int, count: int | None, threads: list[int]
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)))
    slots = CpuBackend({}).slots(count)
    assert [slot.threads for slot in slots] == threads
    assert [slot.id for slot in slots] == [f"cpu:{index}" for index in range(len(threads))]


@pytest.mark.parametrize("count", [0, -1, 3])
def test_a_count_that_cannot_be_says_how_many_cores_there_are(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    with pytest.raises(PluginError, match=f"offers 2 CPU cores.*1 to 2 slots, not {count}"):
        CpuBackend({}).slots(count)


def test_a_worker_is_kept_to_its_threads() -> None:
    slot = CpuBackend({}).slots(1)[0]
    assert CpuBackend({}).environment((slot,)) == {
        "OMP_NUM_THREADS": str(slot.threads),
        "MKL_NUM_THREADS": str(slot.threads),
    }


def test_fp16_is_refused_where_torch_has_none_for_this_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    from mnist_trials_plugins.backends._torch import precision

    monkeypatch.setattr(precision, "_cpu_has_half", lambda: False)
    backend = CpuBackend({})
    settings = ExecutionSettings(
        slots=backend.slots(None)[:1], precision="fp16-mixed", compile=False, deterministic=False, seed=1
    )
    with pytest.raises(PluginError, match="Use precision fp32, bf16-mixed or bf16-true"):
        backend.open(settings)


@pytest.mark.parametrize("precision", ["fp32", "bf16-mixed", "fp16-mixed", "bf16-true"])
def test_a_trial_trains_and_resumes_to_the_bit_in_every_precision(lab: Lab, precision: str) -> None:
    hparams = {"aggregation_frequency": 2, "max_gradient_norm": 1.0}
    straight = lab.fit(Small, lab.context(hparams, precision=precision), max_length=mt.Batch(9))
    first = lab.fit(Small, lab.context(hparams, precision=precision), max_length=mt.Batch(4))
    context = lab.context(hparams, precision=precision, checkpoints=[str(first.result.checkpoint)])
    assert same(lab.fit(Small, context, max_length=mt.Batch(9)).weights, straight.weights)


def test_a_trial_that_steps_itself_does_so_outside_of_autocast(lab: Lab) -> None:
    seen: list[bool] = []

    class Own(Small):
        @override
        def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
            loss = super().train_batch(batch, epoch_idx, batch_idx)["loss"]
            assert torch.is_autocast_enabled("cpu")
            loss.register_hook(lambda gradient: seen.append(torch.is_autocast_enabled("cpu")))
            self.context.backward(loss)
            self.context.step_optimizer(self.optimizer)
            return loss

    lab.fit(Own, lab.context(precision="bf16-mixed"))
    assert seen == [False] * 10


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on the CPU")
def test_a_compiled_model_computes_the_same_under_the_same_names(tmp_path: Any) -> None:
    backend = CpuBackend({})
    slot = backend.slots(None)[0]
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU())
    expected = model(torch.ones(2, 4))
    settings = ExecutionSettings(slots=(slot,), precision="fp32", compile=True, deterministic=False, seed=1)
    prepared = backend.open(settings).prepare(model, {})
    assert list(prepared.state_dict()) == ["0.weight", "0.bias"]
    torch.testing.assert_close(prepared(torch.ones(2, 4)), expected)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on the CPU")
@pytest.mark.filterwarnings("default")  # the compiler's own
def test_a_compiled_training_goes_on_uncompiled_and_the_other_way_round(lab: Lab) -> None:
    class Plain(Small):
        """Without dropout, whose random numbers the compiler draws in its own way."""

        @override
        def build_model(self) -> Any:
            model = super().build_model()
            model[3] = torch.nn.Identity()
            return model

    straight = lab.fit(Plain, max_length=mt.Batch(20), validation_period=mt.Batch(6))
    for compiled in (True, False):
        half = lab.fit(Plain, lab.context(compiled=compiled), max_length=mt.Batch(8))
        assert (half.trial.model._compiled_call_impl is not None) == compiled
        assert list(half.weights) == list(straight.weights)
        context = lab.context(compiled=not compiled, checkpoints=[str(half.result.checkpoint)])
        resumed = lab.fit(Plain, context, max_length=mt.Batch(20), validation_period=mt.Batch(6))
        torch.testing.assert_close(resumed.weights, straight.weights)


def test_the_record_of_the_plugin() -> None:
    (record,) = cpu.mnist_trials_backends()
    assert record.name == "cpu"
    assert record.available() is None
