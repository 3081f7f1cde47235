"""Trying a trial out for `validate`: in a process of its own, on one batch, with nothing kept."""

from __future__ import annotations

import difflib
import json
import math
import struct
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, final

from mnist_trials.config import PluginChoice, sample, trial_seed
from mnist_trials.errors import PluginError
from mnist_trials.events import (
    CheckpointSaved,
    DatasetChosen,
    Event,
    MetricsReported,
    TrialExited,
    TrialStarted,
    ValidationCompleted,
    WorkersExited,
)
from mnist_trials.experiment.slots import AUTO, resolve_backend
from mnist_trials.experiment.submission import Submission
from mnist_trials.plugin import Backend, Channel, WorkerSpec, get_plugins
from mnist_trials.records import ErrorInfo, MetricValues

FAKEABLE = "mnist_trials.mnist.data"
"""A trial whose module imports this takes its images from there, where `data.fake: true` is understood."""

_LOG_LINES = 30


@final
@dataclass(slots=True)
class Findings:
    """What trying a trial out has shown."""

    device: str = ""
    dataset: str = ""
    training: MetricValues = field(default_factory=dict)
    validation: MetricValues = field(default_factory=dict)
    tensors: int = 0  # in the model's state
    values: int = 0  # numbers in them
    checkpoint_bytes: int = 0
    error: ErrorInfo | None = None

    def note(self, event: Event) -> None:
        """Take up what `event` says."""
        match event:
            case TrialStarted():
                self.device = event.device
            case DatasetChosen():
                self.dataset = event.dataset
            case MetricsReported():
                self.training = event.metrics
            case ValidationCompleted():
                self.validation = event.metrics
            case CheckpointSaved():
                self.checkpoint_bytes = event.checkpoint.bytes
                self.tensors, self.values = _count(Path(event.checkpoint.location) / "model.safetensors")
            case TrialExited():
                self.error = event.error


def try_out(submission: Submission) -> Findings:
    """Build the trial of a config, train one batch, validate on one, save a checkpoint and load it.

    All of it happens in a folder that is removed afterwards. Random images take the place of real data where the
    trial's own come from mnist_trials.mnist.
    """
    findings = Findings()
    exits: list[WorkersExited] = []

    def deliver(event: Event) -> None:
        findings.note(event)
        if isinstance(event, WorkersExited):
            exits.append(event)

    launcher = get_plugins().find("launcher", "local").factory({})
    with tempfile.TemporaryDirectory(prefix="mnist-trials-validate-") as folder:
        handle = launcher.create([_spec(submission, Path(folder))])
        try:
            handle.start(deliver)
            while not handle.join(1.0):
                pass
        finally:
            handle.kill()
            handle.join(10.0)
            launcher.close()
        if findings.error is None and exits[0].exit_codes != (0,):
            findings.error = _silent_death(exits[0], Path(folder) / "log.txt")
    metric = submission.loaded.config.searcher.metric
    if findings.error is None and metric not in findings.validation:
        findings.error = _missing(metric, sorted(findings.validation))
    return findings


def run(spec: WorkerSpec, channel: Channel) -> int:
    """What the process calls: an ordinary run of a trial, on fake data where the trial can have it."""
    from mnist_trials.worker.entrypoint import load_trial_class
    from mnist_trials.worker.main import run as run_worker

    config = dict(spec.config)
    with suppress(BaseException):  # told by `run_worker`, which comes upon it again
        load_trial_class(config["entrypoint"], Path(spec.context_dir))
    if FAKEABLE in sys.modules:
        config["data"] = {**(config.get("data") or {}), "fake": True}
    return run_worker(replace(spec, config=config), channel)


def _spec(submission: Submission, folder: Path) -> WorkerSpec:
    config = submission.loaded.config
    backend = _backend_here(config.backend)
    (slot,) = backend.slots(1)
    document = config.to_dict()
    # One process is enough to see whether the trial works: it has the whole batch and whole parameters. It is told of
    # the other slots, because it can see too whether batch and parameters could be split over them.
    document["shard"] = False
    document["checkpoint_storage"] = {"type": "directory", "container_path": str(folder / "checkpoints")}
    return WorkerSpec(
        experiment_id=1,
        trial_id=1,
        run=1,
        rank=0,
        size=1,
        slots=(slot,),
        config=document,
        hparams=sample(config.hyperparameters, config.experiment_seed, 1),
        seed=trial_seed(config.experiment_seed, 1),
        context_dir=str(submission.context),
        trial_dir=str(folder),
        log_path=str(folder / "log.txt"),
        checkpoint_root=str(folder / "checkpoints"),
        test_mode=True,
        environment={**backend.environment((slot,)), "PYTHONDONTWRITEBYTECODE": "1"},
        target=f"{__name__}:run",
    )


def _backend_here(choice: PluginChoice) -> Backend:
    """What the config names; where that is on a cluster only, what this machine has."""
    try:
        return resolve_backend(get_plugins(), choice)[1]
    except PluginError:
        return resolve_backend(get_plugins(), PluginChoice(AUTO))[1]


def _count(path: Path) -> tuple[int, int]:
    """How many tensors a safetensors file has and how many numbers are in them, from its header alone."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header: Mapping[str, Any] = json.loads(file.read(length))
    shapes = [entry["shape"] for name, entry in header.items() if name != "__metadata__"]
    return len(shapes), sum(math.prod(shape) for shape in shapes)


def _missing(metric: str, reported: Sequence[str]) -> ErrorInfo:
    near = difflib.get_close_matches(metric, reported, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    message = f"validation does not report searcher.metric '{metric}'.{hint} Reported: {', '.join(reported) or 'none'}."
    return ErrorInfo(type="UnknownMetric", message=message, traceback="", batches=1)


def _silent_death(exited: WorkersExited, log: Path) -> ErrorInfo:
    printed = log.read_text(errors="replace").splitlines()[-_LOG_LINES:] if log.exists() else []
    reason = exited.reason or f"its process ended with status {exited.exit_codes[0]} and said nothing"
    return ErrorInfo(type="ProcessEnded", message=reason, traceback="\n".join(printed), batches=0)
