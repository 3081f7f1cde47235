"""Small trainings on the backend `jax`, in a process of their own: jax warns of itself wherever it is forked."""

from __future__ import annotations

import functools
import importlib
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from typing_extensions import override

from mnist_trials.config import Mesh
from mnist_trials.plugin import ExecutionSettings, Layout, get_plugins
from mnist_trials.testing.channel import RecordingChannel
from mnist_trials.training.context import TrialContext
from tests.training.distributed.crew import Crew
from tests.training.lab import SEARCHED, AnyLab

VARIABLES = {
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0",
    "NPROC": "1",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",  # tests compile the same programs again and again
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}

Case = Callable[["JaxLab"], None]


class JaxLab(AnyLab):
    """Runs trials in one folder, on the devices of jax in this process."""

    @override
    def context(
        self,
        hparams: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
        *,
        mesh: tuple[int, int] = (1, 1),
        precision: str = "fp32",
        seed: int = 7,
        checkpoints: Sequence[str] = (),
        warm_start: str | None = None,
        test_mode: bool = False,
    ) -> TrialContext:
        """A context on a mesh of (data, tensor) devices."""
        backend = get_plugins().find("backend", "jax").factory({})
        count = mesh[0] * mesh[1]
        slots = tuple(replace(backend.slots(1)[0], index=index, threads=1) for index in range(count))
        spec = self.spec(
            slots,
            hparams,
            checkpoints,
            config={**SEARCHED, **(config or {})},
            seed=seed,
            warm_start=warm_start,
            test_mode=test_mode,
        )
        settings = ExecutionSettings(
            slots=slots,
            precision=precision,
            compile=False,
            deterministic=False,
            seed=seed,
            layout=Layout(),
            mesh=Mesh(data=mesh[0], tensor=mesh[1]),
        )
        return TrialContext(spec, RecordingChannel(), backend.open(settings), self.storage)


def in_jax(case: Case) -> Callable[..., None]:
    """Makes a test of `case`, which is called in the process of jax."""

    def test(jax_crew: Crew, tmp_path: Path) -> None:
        jax_crew.run(carry_out, (1, 1), tmp_path, module=case.__module__, name=case.__name__)

    functools.update_wrapper(test, case, assigned=("__module__", "__name__", "__qualname__", "__doc__"))
    test.case = test.__dict__.pop("__wrapped__")  # type: ignore[attr-defined]  # pytest would take its arguments
    return test


def carry_out(layout: Layout, folder: Path, *, module: str, name: str) -> None:
    """Called in the process of jax."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        getattr(importlib.import_module(module), name).case(JaxLab(folder))


class JaxCrew(Crew):
    """One process, with two devices."""

    def __init__(self, cache: Path) -> None:
        """`cache`: a folder for compiled programs."""
        super().__init__()
        self._variables = {**VARIABLES, "JAX_COMPILATION_CACHE_DIR": str(cache)}

    @override
    def _enlist(self, size: int) -> None:
        before = {name: os.environ.get(name) for name in self._variables}
        os.environ.update(self._variables)
        try:
            super()._enlist(size)
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
