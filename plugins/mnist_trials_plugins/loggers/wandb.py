"""The logger `wandb`: each trial as a run on Weights & Biases, grouped by experiment.

    loggers:
      - wandb
      - {name: wandb, project: mnist, run_name: baseline, tags: [cnn, first], mode: online}
      - {name: wandb, log_weights: "Weights/{name}", log_gradients: "Gradients/{name}", log_val_loss: val/loss}
      - {name: wandb, log_checkpoints: true}

`project` is by default the experiment's project, else "mnist-trials"; `tags` the experiment's labels; `run_name` the
experiment's name. A run is called `<run_name>-<experiment>.<trial>`. Its step is the number of batches; metrics are
named `training/...` and `validation/...`, histograms (`watch`) `gradients/...` and `parameters/...`. `log_train_loss`,
`log_val_loss` and `log_val_accuracy` give the metrics `loss`, `validation_loss` and `accuracy` another name;
`log_gradients` and `log_weights` are templates for histograms, in which {name} is the parameter's.

A trial that fails gives an alert with the traceback. With `log_checkpoints` each checkpoint is logged as an artifact
that refers to where it lies: nothing of it is uploaded.

`mode` is online, offline or disabled. Without it WANDB_MODE decides, and without that the mode is online where
WANDB_API_KEY is set, else offline: nothing leaves the machine unasked. What was written offline lies in the
experiment's folder for files and is uploaded by `wandb sync`.

Nobody is ever asked for a key. Where W&B cannot be reached the logger fails, is dropped, and the experiment goes on.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from typing_extensions import override

from mnist_trials.errors import PluginError
from mnist_trials.events import (
    CheckpointSaved,
    DatasetChosen,
    Event,
    HistogramsReported,
    MetricsReported,
    TrialExited,
    TrialStarted,
    TrialTested,
    ValidationCompleted,
)
from mnist_trials.plugin import Logger, LoggerContext, Options, PluginRecord, hookimpl, refuse_unknown, text_option
from mnist_trials.records import Outcome
from mnist_trials_plugins.loggers._wandb_names import METRICS, TEMPLATES, Names

_SELF = "the logger 'wandb'"
_MODES = ("online", "offline", "disabled")
_SECONDS_TO_CONNECT = 30.0
_RUNS = "wandb_runs.json"
_NO_ARTIFACT_NAME = re.compile(r"[^A-Za-z0-9._-]")
_LONGEST_NAME = 128


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class WandbOptions:
    """The options; None: what the module says is chosen then."""

    project: str | None = None
    run_name: str | None = None
    tags: tuple[str, ...] | None = None
    mode: str | None = None
    names: Names = field(default_factory=lambda: Names.of(_SELF, {}))
    log_checkpoints: bool = False


@final
@dataclass(slots=True)
class _Trial:
    run_id: str  # W&B's own id, unlike trial ids unique over all homes
    hparams: Mapping[str, Any]
    run: Any = None  # a wandb.Run while the trial is going on
    step: int = -1  # W&B takes steps only in order


@final
class WandbLogger(Logger):
    """Opens a run when a trial starts and finishes it when the trial has ended."""

    def __init__(self, options: WandbOptions) -> None:
        self._options = options
        self._context: LoggerContext | None = None
        self._trials: dict[int, _Trial] = {}

    @override
    def start(self, context: LoggerContext) -> None:
        import wandb

        # Silent for the whole process: no word on the output of a command, and no question about a missing key.
        wandb.setup(settings=wandb.Settings(silent=True))
        self._context = context
        context.directory.mkdir(parents=True, exist_ok=True)
        self._trials = {int(trial_id): _Trial(**known) for trial_id, known in _read(context.directory / _RUNS).items()}

    @override
    def trial_created(self, trial_id: int, hparams: Mapping[str, Any]) -> None:
        if trial_id not in self._trials:
            self._trials[trial_id] = _Trial(uuid.uuid4().hex[:16], dict(hparams))
            self._save()

    @override
    def event(self, event: Event) -> None:
        match event:
            case TrialStarted():
                self._run(event.trial_id).summary.update({"backend": event.backend, "device": event.device})
            case DatasetChosen():
                self._run(event.trial_id).summary.update({"dataset": event.dataset})
            case MetricsReported():
                self._log(event, self._options.names.of_metrics("training", event.metrics))
            case ValidationCompleted():
                self._log(event, self._options.names.of_metrics("validation", event.metrics))
            case TrialTested():
                self._run(event.trial_id).summary.update(self._options.names.of_metrics("test", event.metrics))
            case HistogramsReported():
                self._log(event, self._histograms(event))
            case CheckpointSaved() if self._options.log_checkpoints:
                self._refer_to(event)
            case TrialExited():
                self._exited(event)

    @override
    def finish(self, summary: Mapping[str, Any]) -> None:
        states = {trial["trial_id"]: trial["state"] for trial in summary.get("trials", ())}
        for trial_id, trial in self._trials.items():
            _close(trial, failed=states.get(trial_id) == "ERROR")

    def _log(self, event: MetricsReported | ValidationCompleted | HistogramsReported, values: dict[str, Any]) -> None:
        run = self._run(event.trial_id)
        trial = self._trials[event.trial_id]
        if event.batches < trial.step:
            return  # a restart trains these batches once more, to the same metrics
        trial.step = event.batches
        run.log({**values, "epochs": event.epochs, "records": event.records}, step=event.batches)

    def _histograms(self, event: HistogramsReported) -> dict[str, Any]:
        import numpy as np
        import wandb

        return {
            self._options.names.of_histogram(found): wandb.Histogram(
                np_histogram=(np.array(found.counts), np.array(found.edges()))
            )
            for found in event.histograms
        }

    def _refer_to(self, event: CheckpointSaved) -> None:
        """Log a checkpoint as an artifact of the place where it lies."""
        import wandb

        run, info = self._run(event.trial_id), event.checkpoint
        remote = "://" in info.location
        if not remote and not Path(info.location).is_dir():
            return  # given up already
        facts = {"uuid": info.uuid, "batches": info.batches, "epochs": info.epochs, "metrics": dict(info.metrics)}
        name = _NO_ARTIFACT_NAME.sub("-", f"{run.name}-checkpoint")[-_LONGEST_NAME:]
        artifact = wandb.Artifact(name, type="checkpoint", metadata=facts)
        artifact.add_reference(info.location if remote else f"file://{info.location}", checksum=False)
        run.log_artifact(artifact, aliases=["latest", f"batch_{info.batches}"])

    def _exited(self, event: TrialExited) -> None:
        trial = self._trials.get(event.trial_id)
        if trial is None or trial.run is None:
            return
        if event.error is not None:
            trial.run.summary.update({"error": f"{event.error.type}: {event.error.message}"})
            if event.outcome is Outcome.FAILED:
                trial.run.alert(
                    title=f"Trial {self._started().experiment_id}.{event.trial_id} failed at batch {event.batches}",
                    text=event.error.traceback or f"{event.error.type}: {event.error.message}",
                    level="ERROR",
                )
        # After a failure or a pause the trial may go on, in the same run.
        if event.outcome not in (Outcome.FAILED, Outcome.PAUSED):
            _close(trial, failed=event.outcome is Outcome.INVALID_HP)

    def _run(self, trial_id: int) -> Any:
        if trial_id not in self._trials:
            self.trial_created(trial_id, {})
        trial = self._trials[trial_id]
        if trial.run is None:
            trial.run = self._open(trial_id, trial)
        return trial.run

    def _open(self, trial_id: int, trial: _Trial) -> Any:
        import wandb

        context = self._started()
        config = context.config
        mode: Any = self._options.mode or os.environ.get("WANDB_MODE") or _mode_by_key()
        about = {"experiment_id": context.experiment_id, "trial_id": trial_id, "config": dict(config)}
        return wandb.init(
            project=self._options.project or config.get("project") or "mnist-trials",
            name=f"{self._options.run_name or context.name}-{context.experiment_id}.{trial_id}",
            group=f"{context.name}-{context.experiment_id}",
            tags=list(config.get("labels") or () if self._options.tags is None else self._options.tags),
            config={**trial.hparams, "mnist_trials": about},
            id=trial.run_id,
            resume="allow" if mode == "online" else None,
            mode=mode,
            dir=str(context.directory),
            reinit="create_new",
            settings=wandb.Settings(
                silent=True,
                console="off",  # this process's output is not the trial's
                x_disable_stats=True,  # nor is its load
                disable_git=True,
                disable_code=True,
                init_timeout=_SECONDS_TO_CONNECT,
            ),
        )

    def _save(self) -> None:
        known = {str(key): {"run_id": trial.run_id, "hparams": trial.hparams} for key, trial in self._trials.items()}
        path = self._started().directory / _RUNS
        new = path.with_suffix(".new")
        new.write_text(json.dumps(known, allow_nan=False))
        new.replace(path)

    def _started(self) -> LoggerContext:
        if self._context is None:
            raise RuntimeError("the logger was not started")
        return self._context


def create(options: Options) -> Logger:
    """The logger with the options that the module describes.

    Raises:
        PluginError: an option is unknown or of the wrong kind.
    """
    refuse_unknown(_SELF, options, ("project", "run_name", "tags", "mode", "log_checkpoints", *TEMPLATES, *METRICS))
    mode = text_option(_SELF, options, "mode")
    if mode is not None and mode not in _MODES:
        raise PluginError(f"'mode' of {_SELF} must be one of {', '.join(_MODES)}, not {mode!r}.")
    checkpoints = options.get("log_checkpoints", False)
    if not isinstance(checkpoints, bool):
        raise PluginError(f"'log_checkpoints' of {_SELF} must be true or false, not {checkpoints!r}.")
    tags = options.get("tags")
    if tags is not None and not (isinstance(tags, list | tuple) and all(isinstance(tag, str) and tag for tag in tags)):
        raise PluginError(f"'tags' of {_SELF} must be a list of texts, not {tags!r}.")
    return WandbLogger(
        WandbOptions(
            project=text_option(_SELF, options, "project"),
            run_name=text_option(_SELF, options, "run_name"),
            tags=None if tags is None else tuple(tags),
            mode=mode,
            names=Names.of(_SELF, options),
            log_checkpoints=checkpoints,
        )
    )


def available() -> str | None:
    """Why it cannot be used here, or None."""
    if importlib.util.find_spec("wandb") is None:
        return "the package wandb is not installed; install it with: pip install 'mnist-trials[wandb]'"
    return None


@hookimpl
def mnist_trials_loggers() -> Iterable[PluginRecord[Logger]]:
    """The plugin's record."""
    return [PluginRecord("wandb", "Each trial as a run on Weights & Biases", create, available)]


def _mode_by_key() -> str:
    return "online" if os.environ.get("WANDB_API_KEY") else "offline"


def _read(path: Path) -> dict[str, Any]:
    try:
        known: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    return known


def _close(trial: _Trial, *, failed: bool) -> None:
    if trial.run is not None:
        trial.run.finish(exit_code=int(failed))
        trial.run = None
