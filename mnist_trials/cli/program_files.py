"""The files that `compile` writes: for each program its text, its operations and what it is loaded from; an index.

With no folder to write into, only what the index would say is kept.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

from mnist_trials import __version__
from mnist_trials.plugin import ArrayKind, Lowered

if TYPE_CHECKING:
    from mnist_trials.programs.specs import TensorSpec
    from mnist_trials.training.programwise.shelf import Bound

INDEX: Final = "index.json"
VERSION: Final = 1
_LIBRARIES: Final = ("torch", "torch_xla", "jax", "jaxlib", "flax", "optax")


@final
class Written:
    """What has been made so far."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._made: list[dict[str, Any]] = []
        self._refused: list[dict[str, str]] = []

    def refuse(self, name: str, reason: str) -> None:
        """Note that something could not be made."""
        self._refused.append({"name": name, "reason": reason})

    def lowered(self, part: Lowered) -> None:
        """Write a part of a step as StableHLO."""
        files = self._put(f"{part.name}.mlir", part.text.encode())
        files |= self._put(f"{part.name}.operations.txt", _listed(part.operations))
        files |= self._put(f"{part.name}{part.suffix}", part.artefact)
        self._made.append(
            {
                "name": part.name,
                "inputs": _kinds(part.inputs),
                "outputs": _kinds(part.outputs),
                "platforms": list(part.platforms),
                "operations": part.operations,
                "loads": part.loads,
                "files": files,
            }
        )

    def program(self, bound: Bound) -> None:
        """Write a program that a training would run, with the weights that it has now."""
        graph, executable = bound.graph, bound.executable
        name = self._new_name(graph.name)
        files = self._put(f"{name}.txt", f"{graph.text()}\n".encode())
        files |= self._put(f"{name}.operations.txt", _listed(graph.operations()))
        if self._folder is not None:
            from mnist_trials.programs.files import save
            from mnist_trials.programs.optimizing import SEPARATOR

            state = dict(zip(graph.state, bound.tensors, strict=False))  # behind them come those that it holds
            weights = [tensor for tensor in state if SEPARATOR not in tensor]
            save(graph, state, weights, {}, self._folder / name)
            files |= {str(path.relative_to(self._folder)): _digest(path) for path in _files(self._folder / name)}
        self._made.append(
            {
                "name": name,
                "inputs": _specs(graph.inputs),
                "state": _specs(graph.state),
                "outputs": _specs(graph.outputs),
                "platforms": [graph.device],
                "operations": dict(sorted(graph.operations().items())),
                "loads": "mnist_trials.Program.load(FOLDER)",
                "key": graph.key,
                "origin": executable.origin,
                "seconds": executable.seconds,
                "reason": executable.reason,
                "files": files,
            }
        )

    def finish(self, kind: str, config: str) -> dict[str, Any]:
        """What was made and what not, which the index says too."""
        index = {
            "version": VERSION,
            "kind": kind,
            "config": config,
            "versions": _versions(),
            "programs": self._made,
            "refused": self._refused,
        }
        if self._folder is not None:
            (self._folder / INDEX).write_text(json.dumps(index, indent=2, sort_keys=False) + "\n", encoding="utf-8")
        return index

    def _new_name(self, name: str) -> str:
        """`name`, or `name.2` and so on: the same step has a program for each size of its batches."""
        taken = {made["name"] for made in self._made}
        return next(new for new in _numbered(name) if new not in taken)

    def _put(self, name: str, content: bytes) -> dict[str, str]:
        if self._folder is not None:
            (self._folder / name).write_bytes(content)
            return {name: hashlib.sha256(content).hexdigest()}
        return {}


def _numbered(name: str) -> Iterator[str]:
    yield name
    number = 2
    while True:
        yield f"{name}.{number}"
        number += 1


def _listed(operations: Mapping[str, int]) -> bytes:
    """One operation a line, sorted by name, with how often it is there."""
    return "".join(f"{name} {count}\n" for name, count in sorted(operations.items())).encode()


def _kinds(kinds: Mapping[str, ArrayKind]) -> dict[str, Any]:
    return {name: asdict(kind) for name, kind in kinds.items()}


def _specs(specs: Mapping[str, TensorSpec]) -> dict[str, Any]:
    return {name: spec.to_json() for name, spec in specs.items()}


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _versions() -> dict[str, str]:
    found = {"mnist-trials": __version__, "python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found
