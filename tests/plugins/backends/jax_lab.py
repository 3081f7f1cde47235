"""Small trainings on the backend `jax`, in a process of their own: jax warns of itself wherever it is forked."""

from __future__ import annotations

import functools
import importlib
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from typing_extensions import override

import mnist_trials as mt
from mnist_trials import events
from mnist_trials.checkpoint import CheckpointContent, read_checkpoint
from mnist_trials.config import Mesh
from mnist_trials.plugin import CheckpointStorage, ExecutionSettings, Layout, WorkerSpec, get_plugins
from mnist_trials.testing.channel import RecordingChannel
from mnist_trials.training.context import TrialContext
from mnist_trials.training.trainer import FitResult
from tests.training.distributed.crew import Crew

VARIABLES = {
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0",
    "NPROC": "1",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",  # tests compile the same programs again and again
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}
HPARAMS = {"optimizer": "sgd", "learning_rate": 0.1, "global_batch_size": 8}
SEARCHED = {"searcher": {"metric": "validation_loss", "smaller_is_better": True, "max_length": {"batches": 100}}}

Case = Callable[["JaxLab"], None]


@dataclass
class Run:
    """A training that was run."""

    trial: Any
    context: TrialContext
    channel: RecordingChannel
    result: FitResult

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        weights: dict[str, torch.Tensor] = self.trial._learner.weights()
        return weights

    @property
    def notices(self) -> list[str]:
        return [event.message for event in self.channel.of(events.Notice)]

    def reported(self, metric: str) -> list[Any]:
        """The values of a training metric, period by period."""
        return [event.metrics[metric] for event in self.channel.of(events.MetricsReported)]


class JaxLab:
    """Runs trials in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.storage: CheckpointStorage = (
            get_plugins().find("checkpoint_storage", "directory").factory({}, folder / "checkpoints")
        )

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
        """A context on a mesh of (data, tensor) devices; a hyperparameter that is None is left out."""
        backend = get_plugins().find("backend", "jax").factory({})
        count = mesh[0] * mesh[1]
        slots = tuple(replace(backend.slots(1)[0], index=index, threads=1) for index in range(count))
        spec = WorkerSpec(
            experiment_id=1,
            trial_id=1,
            run=1,
            rank=0,
            size=1,
            slots=slots,
            config={**SEARCHED, **(config or {})},
            hparams={name: value for name, value in {**HPARAMS, **(hparams or {})}.items() if value is not None},
            seed=seed,
            context_dir=str(self.folder),
            trial_dir=str(self.folder / "trial"),
            log_path="",
            checkpoint_root=str(self.folder / "checkpoints"),
            checkpoints=tuple(checkpoints),
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

    def fit(self, trial_class: type[mt.Trial], context: TrialContext | None = None, **arguments: Any) -> Run:
        """Train a new `trial_class` in `context` with the arguments of `fit`; 10 batches by default."""
        context = context or self.context()
        trial = trial_class(context)
        arguments.setdefault("max_length", mt.Batch(10))
        result = mt.Trainer(trial, context).fit(**arguments)
        assert isinstance(context.channel, RecordingChannel)
        return Run(trial, context, context.channel, result)

    def read(self, uuid: str) -> CheckpointContent:
        with self.storage.fetch(uuid) as folder:
            return read_checkpoint(folder)[1]


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
