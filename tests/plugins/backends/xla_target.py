"""What the tests in test_xla.py run: python xla_target.py TASK REPORT ARGUMENTS. The report is JSON."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from typing_extensions import override

import mnist_trials as mt
from mnist_trials.errors import PluginError
from mnist_trials.plugin import ExecutionSettings
from mnist_trials_plugins.backends.xla import XlaBackend

TRAINED, VALIDATED, BATCH = 300, 1000, 64


class Digits(mt.Trial):
    """A small network with rules like those of the linear reference, and a convolution in front."""

    losses: list[Any]
    seen = 0

    @override
    def build_model(self) -> Any:
        torch.manual_seed(1)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(36, 32),
            nn.ReLU(),
            nn.Linear(32, 32),
            nn.ReLU(),
            nn.Dropout(self.context.hparams["dropout"]),
            nn.Linear(32, 10),
        )

    @override
    def sharding_rules(self) -> Any:
        return {r"4\.weight": (None, "tensor"), r"6\.weight": ("tensor", None), r"9\.weight": (None, "tensor")}

    @override
    def build_data(self) -> Any:
        drawn = torch.Generator().manual_seed(3)
        images = torch.randint(0, 256, (VALIDATED, 1, 8, 8), generator=drawn, dtype=torch.uint8)
        labels = torch.randint(0, 10, (VALIDATED,), generator=drawn)
        return mt.TensorData(images[:TRAINED], labels[:TRAINED], unit), mt.TensorData(images, labels, unit)

    @override
    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        return nn.functional.cross_entropy(self.model(batch[0]), batch[1])

    @override
    def evaluate_batch(self, batch: Any, batch_idx: int) -> Any:
        logits = self.model(batch[0])
        hits = logits.argmax(1) == batch[1]
        return {
            "validation_loss": nn.functional.cross_entropy(logits, batch[1]),
            "accuracy": hits.float().mean(),
        }


def unit(images: torch.Tensor) -> torch.Tensor:
    return images.float() / 255


class Watch(mt.Callback):
    """Notes what every report said, and how much was compiled by the end of each epoch."""

    def __init__(self, context: mt.TrialContext) -> None:
        self.context = context
        self.compilations: list[int] = []

    @override
    def on_epoch_start(self, epoch_idx: int) -> None:
        if epoch_idx:
            self.compilations.append(self.context.execution.compilations)


def context(data: int, tensor: int, *, shard: bool = False, dropout: float = 0.0) -> Any:
    """`data` 0: the backend `cpu`."""
    config: dict[str, Any] = {
        "name": "target",
        "entrypoint": ["python3", "target.py"],
        "searcher": {"name": "single", "metric": "validation_loss"},
        "backend": "xla" if data else "cpu",
        "shard": shard,
        "compile": bool(data),
    }
    if data * tensor > 1:
        config |= {"resources": {"slots_per_trial": data * tensor}, "mesh": [data, tensor]}
    hparams = {"global_batch_size": BATCH, "optimizer": "adam", "learning_rate": 0.003, "dropout": dropout}
    return mt.init(hparams, config, seed=5)


def values(model: nn.Module) -> dict[str, list[float]]:
    return {name: tensor.detach().cpu().flatten().tolist() for name, tensor in model.state_dict().items()}


def digest(content: Any) -> str:
    """Of all tensors and numbers of a nest."""
    found = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            found.update(value.detach().cpu().contiguous().numpy().tobytes())
        elif isinstance(value, dict):
            for key in sorted(value, key=str):
                found.update(str(key).encode())
                add(value[key])
        elif isinstance(value, list | tuple):
            for part in value:
                add(part)
        else:
            found.update(repr(value).encode())

    add(content)
    return found.hexdigest()


def train(data: str, tensor: str, batches: str, shard: str = "") -> dict[str, Any]:
    losses: list[float] = []
    notices: list[str] = []
    with context(int(data), int(tensor), shard=bool(shard)) as trial_context:
        trial = Digits(trial_context)
        watch = Watch(trial_context)
        trial.build_callbacks = lambda: {"watch": watch}  # type: ignore[method-assign]
        trainer = mt.Trainer(trial, trial_context)
        reads = counted_reads(trial_context.execution) if int(data) else []
        emit = trial_context.channel.emit

        def note(event: Any) -> None:
            losses.extend(getattr(event, "metrics", {}).values() if type(event).__name__ == "MetricsReported" else ())
            notices.extend([event.message] if type(event).__name__ == "Notice" else ())
            emit(event)

        trial_context.channel.emit = note
        result = trainer.fit(
            max_length=mt.Batch(int(batches)), reporting_period=mt.Batch(5), validation_period=mt.Epoch(1)
        )
        execution = trial_context.execution
        optimizer = trial.optimizer
        return {
            "losses": losses,
            "notices": notices,
            "metrics": result.metrics,
            "compilations": [*watch.compilations, execution.compilations],
            "seconds": execution.compile_seconds,
            "reads_by_batch": reads,
            "layouts": layouts(dict(trial.model.named_parameters())) if int(data) else {},
            "states": layouts({name: optimizer.state[p]["exp_avg"] for name, p in trial.model.named_parameters()})
            if int(data)
            else {},
            "weights": {
                name: tensor.flatten().tolist()
                for name, tensor in execution.readable(dict(trial.model.state_dict())).items()
            },
        }


def counted_reads(execution: Any) -> list[int]:
    """How often the device was read by the end of each batch that is still to come."""
    counts: list[int] = []
    carry_out = execution._sync

    def count() -> None:
        carry_out()
        counts.append(transfers())

    execution._sync = count
    return counts


def transfers() -> int:
    """Transfers from the device so far."""
    from torch_xla.debug import metrics

    found = metrics.metric_data("TransferFromDeviceTime")
    return 0 if found is None else int(found[0])


def layouts(tensors: dict[str, torch.Tensor]) -> dict[str, str]:
    import torch_xla

    return {name: torch_xla._XLAC._get_xla_sharding_spec(tensor) for name, tensor in tensors.items()}


def save(data: str, tensor: str) -> dict[str, Any]:
    """Train a little, and say what the checkpoint has."""
    with context(int(data), int(tensor)) as trial_context:
        trainer = mt.Trainer(Digits(trial_context), trial_context)
        result = trainer.fit(max_length=mt.Batch(7))
        return {"checkpoint": str(result.checkpoint), "digest": content_digest(trial_context, str(result.checkpoint))}


def restore(data: str, tensor: str, checkpoint: str) -> dict[str, Any]:
    """Go on from a checkpoint for no batch at all, save it again, and say what that one has."""
    folder = Path(os.environ["MNIST_TRIALS_HOME"], "scripts", "xla_target", "checkpoints", checkpoint)
    with context(int(data), int(tensor)) as trial_context:
        trainer = mt.Trainer(Digits(trial_context), trial_context)
        trainer.fit(max_length=mt.Batch(7), latest_checkpoint=folder)
        assert trainer._session is not None
        session = trainer._session
        content = {
            "model": trial_context.execution.readable(session.learning.weights()),
            "optimizers": trial_context.execution.readable(session.state_dict()["optimizers"]),
        }
        return {"digest": digest(content)}


def content_digest(trial_context: Any, checkpoint: str) -> str:
    from mnist_trials.checkpoint import read_checkpoint

    folder = Path(os.environ["MNIST_TRIALS_HOME"], "scripts", "xla_target", "checkpoints", checkpoint)
    _, content = read_checkpoint(folder)
    return digest({"model": dict(content.model), "optimizers": content.state["optimizers"]})


def resume(how: str) -> dict[str, Any]:
    """Train 7 batches with dropout, at once or from a checkpoint after 3."""
    with context(1, 1, dropout=0.3) as trial_context:
        latest = None
        if how == "halves":
            latest = mt.Trainer(Digits(trial_context), trial_context).fit(max_length=mt.Batch(3)).checkpoint
        trial = Digits(trial_context)
        places = Path(os.environ["MNIST_TRIALS_HOME"], "scripts", "xla_target", "checkpoints")
        result = mt.Trainer(trial, trial_context).fit(
            max_length=mt.Batch(7),
            validation_period=[mt.Batch(3)],
            latest_checkpoint=None if latest is None else places / latest,
        )
        return {"weights": values(trial.model), "metrics": result.metrics}


def open_(device: str, chip: str) -> dict[str, Any]:
    backend = XlaBackend({"device": device, "env": {"FAKE_CHIP": chip}})
    slots = backend.slots(1)
    os.environ.update(backend.environment(slots))
    try:
        backend.open(ExecutionSettings(slots=slots, precision="fp32", compile=False, deterministic=False, seed=1))
    except PluginError as error:
        return {"refused": str(error)}
    return {}


TASKS: dict[str, Callable[..., dict[str, Any]]] = {
    "train": train,
    "save": save,
    "restore": restore,
    "resume": resume,
    "open": open_,
}

if __name__ == "__main__":
    _, task, report, *arguments = sys.argv
    found = TASKS[task](*arguments)
    Path(report).write_text(json.dumps(found))
