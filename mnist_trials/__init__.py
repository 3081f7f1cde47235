"""mnist-trials: a trial runtime for PyTorch. `import mnist_trials as mt`; see docs/ for a tour.

Importing this package imports nothing heavy: every public name is fetched from its module when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from mnist_trials.errors import InvalidHP as InvalidHP
    from mnist_trials.experiment.api import Experiment as Experiment
    from mnist_trials.experiment.api import create as create
    from mnist_trials.experiment.loading import load_trial as load_trial
    from mnist_trials.experiment.simulation import simulate as simulate
    from mnist_trials.programs.capture import capture as capture
    from mnist_trials.programs.program import Program as Program
    from mnist_trials.programs.specs import TensorSpec as TensorSpec
    from mnist_trials.training.callbacks import Callback as Callback
    from mnist_trials.training.callbacks import EarlyStopping as EarlyStopping
    from mnist_trials.training.context import TrialContext as TrialContext
    from mnist_trials.training.data.tensors import TensorData as TensorData
    from mnist_trials.training.measures.metrics import weighted as weighted
    from mnist_trials.training.programwise.capture import capture_trial as capture_trial
    from mnist_trials.training.torch_models.schedule import LRSchedule as LRSchedule
    from mnist_trials.training.trainer import FitResult as FitResult
    from mnist_trials.training.trainer import Trainer as Trainer
    from mnist_trials.training.trial import Trial as Trial
    from mnist_trials.units import Batch as Batch
    from mnist_trials.units import Epoch as Epoch
    from mnist_trials.units import Record as Record
    from mnist_trials.worker.init import in_experiment as in_experiment
    from mnist_trials.worker.init import init as init

_HOMES = {
    "Batch": "units",
    "Callback": "training.callbacks",
    "EarlyStopping": "training.callbacks",
    "Epoch": "units",
    "Experiment": "experiment.api",
    "FitResult": "training.trainer",
    "InvalidHP": "errors",
    "LRSchedule": "training.torch_models.schedule",
    "Program": "programs.program",
    "Record": "units",
    "TensorData": "training.data.tensors",
    "TensorSpec": "programs.specs",
    "Trainer": "training.trainer",
    "Trial": "training.trial",
    "TrialContext": "training.context",
    "capture": "programs.capture",
    "capture_trial": "training.programwise.capture",
    "create": "experiment.api",
    "in_experiment": "worker.init",
    "init": "worker.init",
    "load_trial": "experiment.loading",
    "simulate": "experiment.simulation",
    "weighted": "training.measures.metrics",
}

__all__ = [
    "Batch",
    "Callback",
    "EarlyStopping",
    "Epoch",
    "Experiment",
    "FitResult",
    "InvalidHP",
    "LRSchedule",
    "Program",
    "Record",
    "TensorData",
    "TensorSpec",
    "Trainer",
    "Trial",
    "TrialContext",
    "__version__",
    "capture",
    "capture_trial",
    "create",
    "in_experiment",
    "init",
    "load_trial",
    "simulate",
    "weighted",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'mnist_trials' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"mnist_trials.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_HOMES))
