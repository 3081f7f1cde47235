"""`compile`: programs for later runs, and StableHLO for other machines."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from mnist_trials.plugin import PARTS
from mnist_trials.programs.program import Program

NO_COMPILER = {"CXX": "no-such-compiler"}  # programs are captured, kept nowhere, and run as they are
PROGRAM = ("--config", "compile=program")

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler g++ here")
needs_xla = pytest.mark.skipif(find_spec("torch_xla") is None, reason="torch_xla is not installed")
needs_jax = pytest.mark.skipif(find_spec("jax") is None or find_spec("flax") is None, reason="jax is not installed")


def index_of(folder: Path) -> Any:
    """The index of what was written, whose files are all there and what it says."""
    index = json.loads((folder / "index.json").read_text())
    listed = {name: digest for program in index["programs"] for name, digest in program["files"].items()}
    there = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    assert set(listed) == set(there) - {"index.json"}
    assert {name: hashlib.sha256(there[name].read_bytes()).hexdigest() for name in listed} == listed
    return index


@pytest.mark.slow
def test_programs_are_captured_for_whole_batches_and_for_short_ones(
    program, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in NO_COMPILER.items():
        monkeypatch.setenv(name, value)
    out = tmp_path / "out"
    outcome = program("compile", project, "--out", out, "--json", "--config", "hyperparameters.global_batch_size=24")
    assert outcome.status == 0, outcome.err
    assert "does not say 'compile: program'" in outcome.err
    index = index_of(out)
    assert index["kind"] == "programs"
    assert index["versions"]["torch"] == version("torch")
    sizes = {made["name"]: made["inputs"]["batch_0"]["shape"] for made in index["programs"]}
    assert sizes == {"train": [24, 4], "train.2": [16, 4], "evaluate": [24, 4], "evaluate.2": [16, 4]}
    train = index["programs"][0]
    assert (train["origin"], "no-such-compiler" in train["reason"]) == ("not compiled", True)
    listed = dict(line.split() for line in (out / "train.operations.txt").read_text().splitlines())
    assert listed == {name: str(count) for name, count in train["operations"].items()}
    assert list(listed) == sorted(listed)
    assert "aten.addmm.default" in (out / "train.txt").read_text()
    assert outcome.document["programs"] == index["programs"]
    require_the_same_when_loaded(out / "evaluate")


def require_the_same_when_loaded(folder: Path) -> None:
    evaluate = Program.load(folder)
    images, labels = torch.rand(24, 4), torch.randint(0, 2, (24,))
    with evaluate.attach() as session:
        found = session.run(images, labels)
    logits = torch.nn.functional.linear(images, evaluate.weights["weight"], evaluate.weights["bias"])
    assert torch.equal(found["validation_loss"], torch.nn.functional.cross_entropy(logits, labels))


@needs_compiler
@pytest.mark.slow
def test_what_was_compiled_is_used_by_the_experiment_that_follows(program, project: Path, home: Path) -> None:
    first = program("compile", project, "--json", *PROGRAM)
    assert first.status == 0, first.err
    assert [made["origin"] for made in first.document["programs"]] == ["built", "built"]
    assert first.document["store"] == str(home / "programs")
    created = program("create", project, *PROGRAM)
    assert created.status == 0, created.err
    assert created.out.count(": reused in ") == 2
    assert ": built in " not in created.out
    again = program("compile", project, *PROGRAM)
    assert again.out.count("was there already") == 2


@needs_jax
@pytest.mark.slow
def test_the_parts_of_a_jax_step_are_exported_for_platforms_that_are_not_here(program, tmp_path: Path) -> None:
    out = tmp_path / "out"
    outcome = program("compile", "experiment_configs/jax_mlp.yaml", "--export", "stablehlo", "--out", out,
                      "--platforms", "cpu,cuda,tpu")  # fmt: skip
    assert outcome.status == 0, outcome.err
    index = index_of(out)
    assert [made["name"] for made in index["programs"]] == list(PARTS)
    assert {tuple(made["platforms"]) for made in index["programs"]} == {("cpu", "cuda", "tpu")}
    assert "stablehlo.dot_general" in (out / "forward_eval.mlir").read_text()
    for made in index["programs"]:
        listed = dict(line.split() for line in (out / f"{made['name']}.operations.txt").read_text().splitlines())
        assert listed == {name: str(count) for name, count in made["operations"].items()}
        assert list(listed) == sorted(listed)
    require_what_the_parts_of_a_jax_step_give(out, {made["name"]: made for made in index["programs"]})


def require_what_the_parts_of_a_jax_step_give(out: Path, programs: dict[str, Any]) -> None:
    """Each part, read back, gives what jax finds for the reference's network, to 1e-6."""
    import jax
    import jax.export
    import jax.numpy as jnp
    import numpy as np

    drawn = np.random.default_rng(1)
    given: dict[str, Any] = {
        "key": np.asarray(jax.random.key_data(jax.random.key(3))),
        "learning_rate": np.float32(0.25),
        "batch.0": drawn.integers(0, 256, (256, 1, 28, 28), np.uint8),
        "batch.1": drawn.integers(0, 10, 256, np.int32),
        "epoch": np.int32(0),
        "number": np.int32(0),
        "state.steps": np.int32(0),
    }

    def called(name: str) -> dict[str, Any]:
        exported = jax.export.deserialize(bytearray((out / f"{name}.jax_export").read_bytes()))
        return dict(exported.call({wanted: given[wanted] for wanted in programs[name]["inputs"]}))

    def logits(weights: dict[str, Any], rows: Any) -> Any:
        for layer in "012":
            rows = rows @ weights[f"{layer}.weight"] + weights[f"{layer}.bias"]
            rows = jnp.maximum(rows, 0) if layer != "2" else rows
        return rows

    def loss(weights: dict[str, Any], rows: Any) -> Any:
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits(weights, rows)), given["batch.1"][:, None], axis=1)
        return -chosen.mean()

    def require(found: Any, expected: Any) -> None:
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)

    weights = {name.removeprefix("weights.params."): value for name, value in called("init").items()}
    assert {name: value.shape for name, value in weights.items() if "weight" in name} == {
        "0.weight": (784, 128), "1.weight": (128, 128), "2.weight": (128, 10)
    }  # fmt: skip
    for name, value in weights.items():
        given[f"weights.params.{name}"] = given[f"state.weights.params.{name}"] = value
    given["input.0"] = rows = given["batch.0"].reshape(256, 784).astype(np.float32) / 255
    expected, gradients = jax.value_and_grad(loss)(weights, rows)
    given |= {f"gradients.{name}": value for name, value in gradients.items()}

    require(called("forward_train")["output"], logits(weights, rows))
    require(called("forward_eval")["output"], logits(weights, rows))
    require(called("loss")["loss"], expected)
    require(called("evaluation")["validation_loss"], expected)
    hits = jnp.argmax(logits(weights, rows), axis=1) == given["batch.1"]
    require(called("evaluation")["accuracy"], hits.mean())
    found, updated, stepped = called("gradients"), called("optimizer"), called("train_step")
    require(found["loss"], expected)
    require(stepped["loss"], expected)
    for name, value in weights.items():
        require(found[f"gradients.{name}"], gradients[name])
        for after in (updated, stepped):
            require(after[f"state.weights.params.{name}"], value - 0.25 * gradients[name])


RELOADED = """
import json, sys, zipfile, torch, os
os.environ["PJRT_DEVICE"] = "CPU"
from torch_xla.stablehlo import StableHLOGraphModule
folder, program = sys.argv[1:]
zipfile.ZipFile(f"{folder}/{program}.stablehlo.zip").extractall(f"{folder}/unpacked")
(made,) = [m for m in json.load(open(f"{folder}/index.json"))["programs"] if m["name"] == program]
torch.manual_seed(1)
given = {
    name: torch.rand(kind["shape"]) if kind["dtype"] == "float32" else torch.randint(0, 2, kind["shape"])
    for name, kind in made["inputs"].items()
}
outputs = dict(zip(made["outputs"], StableHLOGraphModule.load(f"{folder}/unpacked")(*given.values())))
weight, bias = (given[f"state.weights.{name}"].requires_grad_() for name in ("weight", "bias"))
loss = torch.nn.functional.cross_entropy(given["batch_0"] @ weight.T + bias, given["batch_1"])
gradients = torch.autograd.grad(loss, [weight, bias])
torch.testing.assert_close(outputs["loss"].cpu(), loss.detach())
for name, value, gradient in zip(("weight", "bias"), (weight, bias), gradients):
    after = (value - given["learning_rate"] * gradient).detach()
    torch.testing.assert_close(outputs[f"state.weights.{name}"].cpu(), after)
print("the same")
"""


@needs_xla
@pytest.mark.slow
def test_the_parts_of_a_torch_step_are_lowered_and_give_the_same_when_loaded(
    program, project: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    outcome = program("compile", project, "--export", "stablehlo", "--out", out)
    assert outcome.status == 0, outcome.err
    assert [made["name"] for made in index_of(out)["programs"]] == list(PARTS)
    assert "stablehlo.dot_general" in (out / "train_step.mlir").read_text()
    done = subprocess.run(
        [sys.executable, "-c", RELOADED, out, "train_step"], capture_output=True, text=True, timeout=120, check=False
    )
    assert "the same" in done.stdout, done.stderr


@needs_xla
@pytest.mark.slow
def test_what_cannot_be_made_is_said_and_the_rest_is_made(program, project: Path, tmp_path: Path) -> None:
    trial = project.parent / "tiny.py"
    trial.write_text(trial.read_text().replace('loss * float("nan") if', "loss * loss.item() if loss.item() > 9 or"))
    out = tmp_path / "out"
    outcome = program("compile", project, "--export", "stablehlo", "--out", out)
    assert outcome.status == 1
    assert "not made: train_step: " in outcome.err
    assert "tiny.py" in outcome.err
    made = [one["name"] for one in index_of(out)["programs"]]
    assert made == ["init", "forward_train", "forward_eval", "optimizer", "evaluation"]


@pytest.mark.slow
def test_where_nobody_can_lower_a_program_it_is_said_how_to_get_one(program, project: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    plugins = "backend-cpu,launcher-local,searcher-single,checkpoint-storage-directory"
    outcome = program("compile", project, "--export", "stablehlo", "--out", out, MNIST_TRIALS_PLUGINS=plugins)
    assert outcome.status == 1
    assert "not made: train_step: no installed backend lowers torch programs" in outcome.err
    index = index_of(out)
    assert (index["programs"], [refused["name"] for refused in index["refused"]]) == ([], list(PARTS))


@pytest.mark.parametrize(
    ("arguments", "said", "status"),
    [
        (["--export", "stablehlo"], "--export stablehlo writes files: say where with --out DIR", 2),
        (["--export", "onnx"], "argument --export: invalid choice: 'onnx'", 2),
        (["--platforms", "cpu,,tpu"], "takes names of platforms with commas between", 2),
        (["--out", "."], ". exists and is no empty folder", 2),
        (["--config", "hyperparameters.learning_rte=1", "--config", "sercher=1"], "Did you mean 'searcher'?", 2),
        (["--config", "entrypoint=[python3, -c, pass]"], "nothing to compile: the entrypoint is a command", 2),
    ],
)
def test_a_call_that_makes_no_sense_is_refused(
    cli, project: Path, arguments: list[str], said: str, status: int
) -> None:
    outcome = cli("compile", project, *arguments)
    assert outcome.status == status
    assert said in outcome.err


def test_a_device_is_never_taken_to_compile(cli, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    outcome = cli("compile", project, "--config", "backend=cuda", "--json")
    assert outcome.status == 1
    assert outcome.document["programs"] == []
    assert "not made: programs: " in outcome.err
    assert "--export stablehlo needs no device" in outcome.err
