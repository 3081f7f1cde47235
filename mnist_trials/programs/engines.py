"""Ways to run a graph: compiled ahead of time by torch's AOTInductor, or operation by operation as it was captured."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch

from mnist_trials.programs.graph import Graph

Run = Callable[[list[torch.Tensor]], Sequence[torch.Tensor]]
"""Takes what `Graph.flat` gives, and gives the outputs in order."""

OPTIONS: Final[dict[str, Any]] = {
    "fallback_random": True,  # dropout and the like draw the numbers that they draw without a program
    "cpp.min_chunk_size": 32_768,  # elements per thread, as torch itself has it: fewer are not worth a second one
    "compile_threads": 1,  # or a pool of processes stays, which nobody would end
}
"""How programs are compiled; a part of their keys."""


def why_not_compiled(device: str) -> str | None:
    """Why no program can be compiled for `device` on this machine; None where it can."""
    compiler = os.environ.get("CXX") or "g++"
    if shutil.which(compiler) is None:
        return (
            f"there is no C++ compiler '{compiler}' (on Debian and Ubuntu: apt-get install g++; the variable CXX names "
            "another)"
        )
    if device not in ("cpu", "cuda"):
        return f"torch compiles for cpu and cuda, not for {device}"
    return None


def compile_to(graph: Graph, package: Path) -> None:
    """Compile `graph` into the file `package`. torch keeps what it made on the way where TORCHINDUCTOR_CACHE_DIR says.

    Raises:
        Exception: whatever torch and the compiler raise where they cannot.
    """
    import torch._inductor

    exported = graph.exported()
    with _quiet():
        torch._inductor.aoti_compile_and_package(exported, package_path=str(package), inductor_configs=dict(OPTIONS))


def load(package: Path) -> Run:
    """The compiled program in the file `package`. Runs its code: verify the file first.

    Raises:
        RuntimeError: it is no such program, or for another machine.
    """
    loader = torch._C._aoti.AOTIModelPackageLoader(str(package), "model", False, 1, -1)
    run: Run = loader.run
    return run


def as_captured(graph: Graph) -> Run:
    """Runs the operations one by one, without a compiler."""
    module = graph.module

    def run(tensors: list[torch.Tensor]) -> Sequence[torch.Tensor]:
        with torch.no_grad():
            outputs: Sequence[torch.Tensor] = module(*tensors)
        return outputs

    return run


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a compiler thinks of code that torch has made is of no use to anybody
        yield
