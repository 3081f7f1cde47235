"""Trying a trial out for `validate`: traced, then run on one batch, in a process of its own, with nothing kept."""

from __future__ import annotations

import difflib
import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, final

from mnist_trials.cli.rehearsal import (
    chosen,
    on_fake_data,
    refused,
    rehearsal,
    task_of,
    tell_found,
    told_refused,
    tries,
)
from mnist_trials.config import ExperimentConfig, PluginChoice
from mnist_trials.errors import PluginError
from mnist_trials.events import (
    CheckpointSaved,
    DatasetChosen,
    Event,
    MetricsReported,
    TrialExited,
    TrialStarted,
    ValidationCompleted,
)
from mnist_trials.experiment.slots import AUTO
from mnist_trials.experiment.submission import Submission
from mnist_trials.plugin import Channel, WorkerSpec, get_plugins, own_options
from mnist_trials.plugin.inspection import Inspection, layer_of, names_of
from mnist_trials.plugin.launcher import Quiet
from mnist_trials.records import ErrorInfo, MetricValues


@final
@dataclass(slots=True)
class Findings:
    """What trying a trial out has shown."""

    backend: str = ""  # that it was tried on
    device: str = ""
    dataset: str = ""
    training: MetricValues = field(default_factory=dict)
    validation: MetricValues = field(default_factory=dict)
    tensors: int = 0  # in the model's state
    values: int = 0  # numbers in them
    checkpoint_bytes: int = 0
    error: ErrorInfo | None = None
    traced: dict[str, Any] = field(default_factory=dict)  # see `_trace`
    refused: list[str] = field(default_factory=list)  # what was said of hyperparameters that were tried before

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
    """Build the trial of a config, trace its steps, train one batch, validate on one, save a checkpoint and load it.

    All of it happens in a folder that is removed afterwards. Random images take the place of real data where the
    trial's own come from mnist_trials.mnist.

    Hyperparameters that the trial refuses (InvalidHP) are replaced, as a search does it, by others, a few times.

    Raises:
        PluginError: nothing can stand in for the config's backend here.
    """
    before: list[str] = []
    findings = Findings()
    for number in tries(submission):
        if findings.error is not None:
            before.append(told_refused(number - 1, findings.error))
        findings = _try_out(submission, number)
        if not refused(findings.error):
            break
    findings.refused = before
    return findings


def _try_out(submission: Submission, number: int) -> Findings:
    """With the hyperparameters of trial `number`."""
    findings = Findings()
    # What is compiled ahead of time is what `compile` tries.
    with rehearsal(submission, f"{__name__}:run", {}, number=number, compile=False) as trying:
        findings.backend = trying.on
        died = trying.run(findings.note)
        findings.error = findings.error or died
        findings.traced = trying.found
    if findings.error is not None:
        findings.error = _with_layer(findings.error, findings.traced.get("layer"))
    metric = submission.loaded.config.searcher.metric
    if findings.error is None and metric not in findings.validation:
        findings.error = _missing(metric, sorted(findings.validation))
    return findings


def run(spec: WorkerSpec, channel: Channel) -> int:
    """What the process calls: the trial is traced, then run as any other is."""
    from mnist_trials.worker.main import run as run_worker

    spec = on_fake_data(spec)
    tell_found(spec, _trace(spec))
    return run_worker(spec, channel)


def _trace(spec: WorkerSpec) -> dict[str, Any]:
    """The trial's `Inspection`, what of it the config's backend lacks, or why there is none.

    Whatever goes wrong here is no verdict: the run that follows gives it.
    """
    try:
        inspection = _inspected(spec)
    except (Exception, SystemExit) as error:
        return {"untraced": f"{type(error).__name__}: {error}", "layer": layer_of(error)}
    found: dict[str, Any] = {"inspection": asdict(inspection), "target": None, "lacks": None, "untold": None}
    choice = chosen(task_of(spec))
    name = spec.slot.backend if choice.name == AUTO else choice.name
    try:
        lacks = _lacks(name, choice, inspection)
    except PluginError as error:
        return {**found, "target": name, "untold": str(error)}
    return {**found, "target": name, "lacks": None if lacks is None else list(lacks)}


def _inspected(spec: WorkerSpec) -> Inspection:
    from mnist_trials.training.inspection import inspect_trial
    from mnist_trials.worker.entrypoint import load_trial_class
    from mnist_trials.worker.setup import open_context

    config = ExperimentConfig.from_dict(spec.config)
    assert config.entrypoint.trial is not None
    trial_class = load_trial_class(config.entrypoint.trial, Path(spec.context_dir))
    context = open_context(spec, config, Quiet())
    try:
        return inspect_trial(trial_class(context), context)
    finally:
        context.execution.close()


def _lacks(name: str, choice: PluginChoice, inspection: Inspection) -> Sequence[str] | None:
    options = {} if choice.name == AUTO else own_options(choice.options)
    backend = get_plugins().backends()[name].make(options)
    return backend.missing(names_of([inspection.training, inspection.evaluation]))


def _with_layer(error: ErrorInfo, layer: str | None) -> ErrorInfo:
    return error if layer is None else replace(error, message=f"{error.message}\n{layer}")


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
