"""Several ranks on the CPU, as processes: gradients, meshes, shards; and the rules that split a model."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from itertools import permutations, product
from pathlib import Path

import pytest
import torch
from torch import nn

from mnist_trials.errors import TrialError
from mnist_trials.plugin import Piece, Rules
from mnist_trials_plugins.backends._torch.parts import _block
from mnist_trials_plugins.backends._torch.rules import Split, resolve

TARGET = Path(__file__).with_name("ranks_target.py")
DEADLINE = 240  # seconds


def run(task: str, data: int, tensor: int, folder: Path, shard: bool = False) -> list[str]:
    """Runs `task` on every rank and gives what they wrote to standard output."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    arguments = [str(data), str(tensor), "shard" if shard else "whole", str(folder)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", str(TARGET), task, str(rank), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for rank in range(data * tensor)
    ]
    try:
        output = [process.communicate(timeout=DEADLINE) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * len(processes), "\n".join(e for _, e in output)
    return [text for text, _ in output]


def test_gradients_of_every_kind_are_averaged_and_nothing_is_printed(tmp_path: Path) -> None:
    folder = tmp_path / "50%41 #1?"  # none of it may be taken for a part of the rendezvous' URL
    folder.mkdir()
    assert run("gradients", 2, 1, folder) == ["", ""]


def test_an_interpreter_that_ends_while_a_thread_waits_for_another_rank_is_not_aborted(tmp_path: Path) -> None:
    run("leaves", 2, 1, tmp_path)


def test_shards_of_the_data_ranks_train_as_one_process_does(tmp_path: Path) -> None:
    run("fp32", 2, 1, tmp_path, shard=True)


@pytest.mark.slow
@pytest.mark.parametrize("shard", [False, True])
def test_a_mesh_of_two_by_two_trains_as_one_process_does(tmp_path: Path, shard: bool) -> None:
    run("fp32", 2, 2, tmp_path, shard=shard)


@pytest.mark.slow
@pytest.mark.parametrize(("data", "tensor"), [(2, 1), (1, 2)])
def test_parts_in_half_precision_are_stepped_or_skipped_together(tmp_path: Path, data: int, tensor: int) -> None:
    run("fp16-mixed", data, tensor, tmp_path, shard=True)


def model() -> nn.Module:
    return nn.Sequential(
        nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4, bias=False), nn.Embedding(10, 4), nn.Conv1d(2, 2, 1)
    )


def test_rules_say_how_modules_are_split() -> None:
    rules: Rules = {
        r"0\.weight": ("tensor", None),
        r"0\.bias": ("tensor",),
        r"2\..*": (None, "tensor"),
        r"3\.weight": ("tensor", None),
        r"4\.weight": (None, None, None),
    }
    assert resolve(rules, model(), 2) == {"0": Split.OUTPUTS, "2": Split.INPUTS, "3": Split.INPUTS}


@pytest.mark.parametrize(
    ("rules", "texts"),
    [
        ({}, ["there are none", "sharding_rules()"]),
        ({r"0\.wieght": ("tensor", None)}, [r"'0\\.wieght' matches no parameter (there are 0.weight, "]),
        ({r"(": (None,)}, ["'(' is no regular expression"]),
        ({r"0\.weight": ("tensor",)}, ["'0.weight' has 2 dimensions (6, 8), its rule 1"]),
        ({r"0\.weight": ("data", None)}, ["'0.weight' cannot be split over 'data': only 'tensor'"]),
        ({r"0\.weight": ("tensor", "tensor")}, ["'0.weight' can be split in one dimension only"]),
        ({r"4\.weight": ("tensor", None, None)}, ["'4.weight' belongs to a Conv1d; only Linear and Embedding"]),
        (
            {r"0\.weight": ("tensor", None), r"0\.w.*": (None, None)},
            [r"'0\\.weight' and '0\\.w.*' both match '0.weight'"],
        ),
        (
            {r"0\.weight": ("tensor", None), r"0\.bias": (None,)},
            ["the bias of '0' goes with its weight as ('tensor',)"],
        ),
        ({r"0\.bias": ("tensor",)}, ["the bias of '0' goes with its weight as (None,)"]),
    ],
)
def test_rules_that_cannot_be_followed_say_why(rules: Rules, texts: list[str]) -> None:
    with pytest.raises(TrialError) as caught:
        resolve(rules, model(), 2)
    assert all(text in str(caught.value) for text in ["mesh.tensor is 2", *texts]), caught.value


def test_what_modules_share_and_what_is_changed_in_place_stays_whole() -> None:
    words, head = nn.Embedding(8, 4), nn.Linear(4, 8)
    head.weight = words.weight
    short = nn.Embedding(8, 4, max_norm=1.0)
    stack = nn.ModuleDict({"words": words, "head": head, "short": short})
    with pytest.raises(TrialError) as caught:
        resolve({r"(words|short)\.weight": ("tensor", None)}, stack, 2)
    assert "'words.weight' is shared by 'words' and 'head'" in str(caught.value)
    assert "'short.weight' belongs to an Embedding with max_norm" in str(caught.value)


def test_all_that_is_wrong_with_rules_is_said_at_once() -> None:
    rules: Rules = {r"0\.weight": ("tensor", None), r"2\.weight": (None, "tensor"), "nothing": (None,)}
    with pytest.raises(TrialError) as caught:
        resolve(rules, model(), 4)
    for text in ("'nothing' matches no parameter", "6 does not divide by 4", "'2.weight' (4, 6)"):
        assert text in str(caught.value)


@pytest.mark.parametrize("name", ["MNISTLinear", "TutorialCNN", "MNISTCNN", "FCMNIST", "PopXLMLP"])
def test_the_rules_of_the_references_fit_their_models(name: str) -> None:
    from mnist_trials.mnist import models, trials

    made: dict[str, nn.Module] = {
        "MNISTLinear": models.LinearStack(8, bias=True),
        "TutorialCNN": models.ConvNet((2, 2), (0.0, 0.0)),
        "MNISTCNN": models.ConvNet((2, 2), (0.0, 0.0), bias=False),
        "FCMNIST": models.fully_connected([8, 4, 6]),
        "PopXLMLP": models.popxl_mlp(8),
    }
    trial_class = getattr(trials, name)
    trial = trial_class.__new__(trial_class)
    trial.context = type("Context", (), {"hparams": {"hidden_sizes": [8, 4, 6]}})
    splits = resolve(trial.sharding_rules(), made[name], 2)
    linear = [module for module, kind in made[name].named_modules() if isinstance(kind, nn.Linear)]
    assert list(splits) == linear or set(splits) == set(linear)
    if name == "MNISTLinear":
        assert [splits[module] for module in linear] == [Split.INPUTS, Split.OUTPUTS, Split.INPUTS]


@pytest.mark.parametrize("shape", [(7, 5), (1, 4), (6,), (3, 1, 9), (2, 0)])
@pytest.mark.parametrize("mesh", [(2,), (3,), (2, 2), (3, 2)])
def test_blocks_are_those_that_torch_cuts_and_fill_the_whole(shape: tuple[int, ...], mesh: tuple[int, ...]) -> None:
    whole = torch.arange(math.prod(shape)).view(shape)
    for order, dims in product(permutations(range(len(mesh))), product(range(len(shape)), repeat=len(mesh))):
        splits = [(over, dims[over]) for over in order]
        seen = []
        for where in product(*map(range, mesh)):
            block = whole
            for over, dim in splits:
                chunks = torch.chunk(block, mesh[over], dim)
                empty = block.narrow(dim, 0, 0)
                block = chunks[where[over]] if where[over] < len(chunks) else empty
            piece = Piece(0, *_block(shape, mesh, where, splits))
            assert torch.equal(whole[piece.place], block)
            assert piece.sizes == tuple(block.shape)
            seen += block.flatten().tolist()
        assert sorted(seen) == whole.flatten().tolist()


def test_gradients_of_a_single_process_are_left_alone() -> None:
    from mnist_trials.plugin import ExecutionSettings
    from mnist_trials_plugins.backends.cpu import CpuBackend

    backend = CpuBackend({})
    execution = backend.open(
        ExecutionSettings(slots=backend.slots(1), precision="fp32", compile=False, deterministic=False, seed=1)
    )
    parameter = nn.Parameter(torch.ones(2))
    parameter.grad = gradient = torch.ones(2)
    execution.average_gradients([parameter])
    assert parameter.grad is gradient
    assert execution.spread(gradient) is gradient
    assert execution.data_group is None
