"""Small trainings on real backends and a real checkpoint storage, all in one process."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from typing_extensions import override

import mnist_trials as mt
from mnist_trials import events
from mnist_trials.checkpoint import CheckpointContent, read_checkpoint
from mnist_trials.config import LossScale
from mnist_trials.plugin import ExecutionSettings, Layout, WorkerSpec, get_plugins
from mnist_trials.records import Mode, Slot
from mnist_trials.testing.channel import RecordingChannel
from mnist_trials.training.context import TrialContext
from mnist_trials.training.trainer import FitResult
from tests.storages import directory

SAMPLES = 100
CLASSES = 3
HPARAMS = {"optimizer": "sgd", "learning_rate": 0.1, "global_batch_size": 8}
SEARCHED = {"searcher": {"metric": "validation_loss", "smaller_is_better": True, "max_length": {"batches": 100}}}


def samples(count: int = SAMPLES, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (count, 4, 4) of uint8 whose brightness is their class, and the classes."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, CLASSES, (count,), generator=generator)
    noise = torch.randint(0, 60, (count, 4, 4), generator=generator)
    return (noise + 80 * labels[:, None, None]).to(torch.uint8), labels


def unit(images: torch.Tensor) -> torch.Tensor:
    return images.float() / 255


class Small(mt.Trial):
    """A small classifier with dropout, so that random state matters."""

    @override
    def build_model(self) -> Any:
        return torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(16, 8), torch.nn.ReLU(), torch.nn.Dropout(0.3), torch.nn.Linear(8, 3)
        )

    @override
    def build_data(self) -> Any:
        return mt.TensorData(*samples(), unit), mt.TensorData(*samples(30, seed=1), unit)

    @override
    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        images, labels = batch
        return {"loss": cross_entropy(self.model(images), labels)}

    @override
    def evaluate_batch(self, batch: Any, batch_idx: int) -> Mapping[str, Any]:
        images, labels = batch
        logits = self.model(images)
        return {
            "validation_loss": cross_entropy(logits, labels),
            "accuracy": (logits.argmax(1) == labels).float().mean(),
        }


@dataclass
class Run:
    """A training that was run."""

    trial: Any
    context: TrialContext
    channel: RecordingChannel
    result: FitResult

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        if self.trial._learner is not None:
            return dict(self.trial._learner.weights())
        return {name: value.clone() for name, value in self.trial.model.state_dict().items()}

    @property
    def notices(self) -> list[str]:
        return [event.message for event in self.channel.of(events.Notice)]

    def reported(self, metric: str) -> list[Any]:
        """The values of a training metric, period by period."""
        return [event.metrics[metric] for event in self.channel.of(events.MetricsReported)]


class AnyLab(ABC):
    """Runs trials in one folder, on any backend."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.storage = directory(folder / "checkpoints")

    @abstractmethod
    def context(self) -> TrialContext:
        """A context for one training. Labs take arguments for what can be different about it."""

    def spec(
        self, slots: tuple[Slot, ...], hparams: Mapping[str, Any] | None, checkpoints: Sequence[str], **fields: Any
    ) -> WorkerSpec:
        """A worker's spec; a hyperparameter that is None is left out."""
        given: dict[str, Any] = {"experiment_id": 1, "rank": 0, "size": 1, "config": SEARCHED, **fields}
        return WorkerSpec(
            trial_id=1,
            run=1,
            slots=slots,
            hparams={name: value for name, value in {**HPARAMS, **(hparams or {})}.items() if value is not None},
            context_dir=str(self.folder),
            trial_dir=str(self.folder / "trial"),
            log_path="",
            checkpoint_root=str(self.folder / "checkpoints"),
            checkpoints=tuple(checkpoints),
            **given,
        )

    def fit(self, trial_class: type[mt.Trial], context: TrialContext | None = None, **arguments: Any) -> Run:
        """Train a new `trial_class` in `context` with the arguments of `fit`; 10 batches by default."""
        context = context or self.context()
        trial = trial_class(context)
        if not arguments.get("max_length"):
            arguments["max_length"] = mt.Batch(10)
        result = mt.Trainer(trial, context).fit(**arguments)
        assert isinstance(context.channel, RecordingChannel)
        return Run(trial, context, context.channel, result)

    def read(self, uuid: str) -> CheckpointContent:
        with self.storage.fetch(uuid) as folder:
            return read_checkpoint(folder)[1]


class Lab(AnyLab):
    """Runs them on the CPU, in this process."""

    @override
    def context(
        self,
        hparams: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
        *,
        channel: RecordingChannel | None = None,
        seed: int = 7,
        precision: str = "fp32",
        loss_scale: LossScale | None = None,
        compiled: bool = False,
        experiment_id: int = 1,
        slots: int = 1,
        layout: Layout | None = None,
        checkpoints: Sequence[str] = (),
        warm_start: str | None = None,
        validate_at: Sequence[int] = (),
        until: int | None = None,
        test_mode: bool = False,
        mode: Mode = "train_and_eval",
    ) -> TrialContext:
        backend = get_plugins().find("backend", "cpu").factory({})
        slot = replace(backend.slots(1)[0], threads=1)
        layout = layout or Layout()
        spec = self.spec(
            (slot,) * slots,
            hparams,
            checkpoints,
            experiment_id=experiment_id,
            rank=layout.rank,
            size=layout.size,
            config=SEARCHED if config is None else config,
            seed=seed,
            warm_start=warm_start,
            validate_at=tuple(validate_at),
            until=until,
            test_mode=test_mode,
            mode=mode,
        )
        settings = ExecutionSettings(
            slots=(slot,),
            precision=precision,
            loss_scale=loss_scale,
            compile=compiled,
            deterministic=False,
            seed=seed,
            layout=layout,
        )
        return TrialContext(spec, channel or RecordingChannel(), backend.open(settings), self.storage)


def same(left: Any, right: Any) -> bool:
    """Whether two nested states are equal to the last bit."""
    if isinstance(left, torch.Tensor):
        return isinstance(right, torch.Tensor) and left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, Mapping):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if hasattr(left, "tobytes"):
        return bool(left.tobytes() == right.tobytes())
    return bool(left == right) or (isinstance(left, float) and math.isnan(left) and math.isnan(right))
