from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from mnist_trials.programs.cache import MANIFEST, PACKAGE, ProgramCache, key_of
from mnist_trials.programs.graph import Graph

compiles = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++, to compile programs")


def graph(size: int = 4, factor: float = 2.0, name: str = "scaled", dtype: torch.dtype = torch.float32) -> Graph:
    """Adds `given` times a factor to the state `total`, and gives the sum."""

    def step(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        tensors["total"].add_(tensors["given"] * factor)
        return {"sum": tensors["total"].sum()}

    return Graph.of(name, step, {"total": torch.zeros(size, dtype=dtype)}, {"given": torch.zeros(size, dtype=dtype)})


def run(executable: Any, size: int = 4) -> tuple[float, torch.Tensor]:
    total = torch.ones(size)
    (output,) = executable.run([total, torch.arange(size, dtype=torch.float32)])
    return float(output), total


def test_equal_graphs_have_one_key_whatever_they_are_called() -> None:
    assert key_of(graph()) == key_of(graph(name="other"))


@pytest.mark.parametrize("other", [{"size": 5}, {"factor": 3.0}, {"dtype": torch.float64}], ids=str)
def test_what_changes_the_program_changes_its_key(other: dict[str, Any]) -> None:
    assert key_of(graph()) != key_of(graph(**other))


def test_the_number_of_threads_is_a_part_of_the_key() -> None:
    before, threads = key_of(graph()), torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        assert key_of(graph()) != before
    finally:
        torch.set_num_threads(threads)


def test_a_program_of_a_deterministic_training_has_a_key_of_its_own() -> None:
    before = key_of(graph())
    torch.use_deterministic_algorithms(True)
    try:
        assert key_of(graph()) != before
    finally:
        torch.use_deterministic_algorithms(False)


def test_a_number_on_the_cpu_stays_there_in_a_program_of_another_device() -> None:
    half = torch.tensor(0.5)
    state = {"total": torch.empty(4, device="meta")}
    captured = Graph.of("scaled", lambda tensors: {"sum": (tensors["total"] * half).sum()}, state, {})
    taken = [node.meta["val"].device.type for node in captured.exported().graph.nodes if node.op == "placeholder"]
    assert taken == ["meta", "cpu"]


@compiles
def test_a_program_is_built_once_and_used_again_unless_it_is_damaged(home: Path) -> None:
    first = ProgramCache().obtain(graph())
    assert (first.origin, first.reason) == ("built", None)
    second = ProgramCache().obtain(graph(name="the same"))
    assert second.origin == "reused"
    assert second.build_seconds == pytest.approx(first.seconds, rel=0.5)
    assert second.seconds < first.seconds
    assert run(first)[0] == run(second)[0] == 4 + 2 * 6
    assert torch.equal(run(first)[1], run(second)[1])
    assert run(second)[1].tolist() == [1.0, 3.0, 5.0, 7.0]  # in place

    place = home / "programs" / key_of(graph())
    manifest = json.loads((place / MANIFEST).read_text())
    assert manifest["operations"] == graph().operations()
    assert (home / "programs").stat().st_mode & 0o077 == 0
    with (place / PACKAGE).open("r+b") as file:
        file.seek(1000)
        file.write(b"\0" * 10)
    assert not ProgramCache().has(graph())


@compiles
@pytest.mark.slow
def test_a_damaged_program_is_built_anew_and_that_is_said(home: Path) -> None:
    ProgramCache().obtain(graph())
    (home / "programs" / key_of(graph()) / PACKAGE).write_bytes(b"nothing of the kind")
    executable = ProgramCache().obtain(graph())
    assert executable.origin == "built"
    assert "damaged" in executable.told()
    assert run(executable)[0] == 16
    assert sorted(path.suffix for path in (home / "programs").iterdir()) == ["", ".lock"]


@compiles
def test_what_cannot_be_compiled_runs_as_it_was_captured_and_says_why(home: Path) -> None:
    home.write_text("a file where the folder is to be")
    executable = ProgramCache().obtain(graph())
    assert executable.origin == "not compiled"
    assert "NotADirectoryError" in executable.told() or "FileExistsError" in executable.told()
    assert run(executable)[0] == 16
