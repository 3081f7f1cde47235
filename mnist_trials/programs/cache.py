"""Compiled programs on disk: each is built once, by whoever needs it first, and used by all that need the same."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, final

import torch

from mnist_trials.programs import engines
from mnist_trials.programs.engines import Run
from mnist_trials.programs.graph import Graph

VERSION: Final = 1
PACKAGE: Final = "program.pt2"
MANIFEST: Final = "manifest.json"
_HOME: Final = "MNIST_TRIALS_HOME"


@final
@dataclass(frozen=True, slots=True)
class Executable:
    """A program that can be run.

    Attributes:
        origin: whether it was compiled now, or is the work of an earlier run, or runs operation by operation.
        seconds: how long it took to get it, compiling included.
        build_seconds: how long compiling took, now or then.
        reason: why it is not compiled, or was compiled anew.
    """

    name: str
    run: Run
    origin: Literal["built", "reused", "not compiled"]
    seconds: float
    build_seconds: float
    reason: str | None = None

    def told(self) -> str:
        """What became of it, as a sentence for the record."""
        if self.origin == "not compiled":
            return f"Program '{self.name}': not compiled, it runs operation by operation: {self.reason}."
        again = "" if self.reason is None else f" ({self.reason})"
        if self.origin == "built":
            return f"Program '{self.name}': built in {self.seconds:.1f} s{again}."
        return (
            f"Program '{self.name}': reused in {self.seconds:.2f} s; it was built in {self.build_seconds:.1f} s before."
        )


def key_of(graph: Graph) -> str:
    """What a compiled program is kept by: its graph's own key, and how it is compiled."""
    options = json.dumps([VERSION, graph.key, engines.OPTIONS], sort_keys=True)
    return hashlib.sha256(options.encode()).hexdigest()[:32]


def program_folder() -> Path:
    """Where programs are kept: `programs` under the home, which is MNIST_TRIALS_HOME or ~/.mnist-trials."""
    return Path(os.environ.get(_HOME) or "~/.mnist-trials").expanduser().absolute() / "programs"


@final
class ProgramCache:
    """A folder of compiled programs, each in a folder named by its key. Processes share it; it may be deleted."""

    def __init__(self, folder: Path | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = program_folder() if folder is None else folder
        self._clock = clock

    def obtain(self, graph: Graph) -> Executable:
        """`graph` as a program to run: compiled before, or now; or as it was captured, where it cannot be compiled."""
        started = self._clock()
        reason = engines.why_not_compiled(graph.device)
        if reason is None:
            try:
                key = key_of(graph)
                with self._alone(key):
                    return self._compiled(graph, key, started)
            except Exception as error:
                reason = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')[:200]}"
        return Executable(graph.name, engines.as_captured(graph), "not compiled", self._clock() - started, 0.0, reason)

    def has(self, graph: Graph) -> bool:
        """Whether it is there, compiled."""
        return self._verified(self._folder / key_of(graph))[0] is not None

    def _compiled(self, graph: Graph, key: str, started: float) -> Executable:
        place = self._folder / key
        manifest, damage = self._verified(place)
        if manifest is not None:
            run = engines.load(place / PACKAGE)
            return Executable(graph.name, run, "reused", self._clock() - started, manifest["seconds"])
        if place.exists():
            shutil.rmtree(place)
        self._build(graph, key)
        run = engines.load(place / PACKAGE)
        seconds = self._clock() - started
        return Executable(graph.name, run, "built", seconds, seconds, damage)

    def _build(self, graph: Graph, key: str) -> None:
        started = self._clock()
        with tempfile.TemporaryDirectory(dir=self._folder, prefix="building-") as name:
            prepared = Path(name) / key
            prepared.mkdir()
            engines.compile_to(graph, prepared / PACKAGE)
            manifest = {
                "version": VERSION,
                "key": key,
                "sha256": _digest(prepared / PACKAGE),
                "seconds": round(self._clock() - started, 3),
                "torch": torch.__version__,
                "program": graph.signature(),
                "operations": graph.operations(),
            }
            (prepared / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
            prepared.rename(self._folder / key)

    def _verified(self, place: Path) -> tuple[Mapping[str, Any] | None, str | None]:
        """The manifest of a whole program, or None and what is wrong with what is there, if anything is."""
        if not place.exists():
            return None, None
        try:
            manifest = json.loads((place / MANIFEST).read_text(encoding="utf-8"))
            if manifest["version"] == VERSION and manifest["sha256"] == _digest(place / PACKAGE):
                return manifest, None
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return None, "the one that was built before is damaged"

    @contextmanager
    def _alone(self, key: str) -> Iterator[None]:
        """While nobody else builds the program `key`: the kernel gives the lock back, however its holder ends."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # what lies there is run
        with (self._folder / f"{key}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
