"""What ranks do in the tests of saves whose parts lie on several of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from typing_extensions import override

import mnist_trials as mt
from mnist_trials.checkpoint import Snapshot, write_checkpoint
from mnist_trials.clock import SystemClock
from mnist_trials.errors import MnistTrialsError
from mnist_trials.events import CheckpointSaved, Notice
from mnist_trials.plugin import CheckpointStorage, Layout
from mnist_trials.testing.channel import RecordingChannel
from mnist_trials.testing.waiting import wait_until
from mnist_trials.training.saving import background, checkpoints
from mnist_trials.training.saving.background import Saver
from tests.storages import Wrapped
from tests.training.distributed.jobs import opened, session_of, whole
from tests.training.distributed.trials import Rows
from tests.training.lab import CLASSES


class Wide(Rows):
    """With so many weights that nothing else counts."""

    @override
    def build_model(self) -> Any:
        return nn.Sequential(
            *(nn.Flatten(), nn.Linear(16, 512), nn.ReLU(), nn.Linear(512, 64), nn.ReLU()),
            nn.Linear(64, CLASSES),
        )


class Tied(Rows):
    """Two layers with one weight."""

    @override
    def build_model(self) -> Any:
        stack = nn.Sequential(
            *(nn.Flatten(), nn.Linear(16, 16, bias=False), nn.ReLU()),
            *(nn.Linear(16, 16, bias=False), nn.ReLU(), nn.Linear(16, CLASSES)),
        )
        stack[3].weight = stack[1].weight
        return stack

    @override
    def sharding_rules(self) -> Any:
        return {}


class OtherOptimizer(Rows):
    """Rank 1 has no momentum."""

    @override
    def build_optimizer(self, model: Any) -> Any:
        return torch.optim.SGD(model.parameters(), 0.1, momentum=0.0 if self.context.rank else 0.9)


class FailsOnRank1(Rows):
    """Rank 1 raises in batch 4, and leaves a note that it has."""

    @override
    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        if batch_idx == 4 and self.context.rank == 1:
            (Path(self.context.spec.context_dir) / "raised").touch()
            raise ZeroDivisionError("my own")
        return {"loss": cross_entropy(self.model(batch[0]), batch[1])}


class Held(Wrapped):
    """Begins no checkpoint before there is a file."""

    def __init__(self, storage: CheckpointStorage, file: Path) -> None:
        super().__init__(storage)
        self._file = file

    @override
    def begin(self, checkpoint_id: str) -> Path:
        wait_until(self._file.exists)
        return super().begin(checkpoint_id)


def saved_twice(layout: Layout, folder: Path, *, uuid: str, trial: type[mt.Trial] = Rows) -> dict[str, Any]:
    """Goes on from a checkpoint and saves at once, as a training does and then as a single process does.

    Returns what each rank held in memory for the first of the two, and the bytes of every tensor.
    """
    with session_of(layout, folder, uuid, trial) as session:
        context = session.context
        new, held = checkpoints.take(session)
        saver = Saver(context, SystemClock(), lambda _: None, ())
        saver.begin(new, held)
        saver.settle()
        content = checkpoints.content_of(session)
        together = replace(content, model=whole(content.model, context), state=whole(content.state, context))
        if layout.rank == 0:
            write_checkpoint(context.storage, "together", together)
        return {
            "uuid": new,
            "held": held.nbytes,
            "buffer": held.gathering(None).nbytes if isinstance(held, Snapshot) else 0,
            "bytes": {name: tensor.nbytes for name, tensor in {**together.model, **flat(together.state)}.items()},
        }


def flat(state: Any, path: str = "state") -> dict[str, torch.Tensor]:
    """The tensors of a nested state, by path."""
    if isinstance(state, torch.Tensor):
        return {path: state}
    items = state.items() if isinstance(state, Mapping) else enumerate(state) if isinstance(state, list | tuple) else ()
    return {name: tensor for key, item in items for name, tensor in flat(item, f"{path}.{key}").items()}


def disturbed(
    layout: Layout,
    folder: Path,
    *,
    fault: tuple[int, str] | None = None,
    held_until: str | None = None,
    last_seconds: Mapping[int, float] | None = None,
    alone: bool = False,
    trial: type[mt.Trial] = Rows,
    **arguments: Any,
) -> dict[str, Any]:
    """A training that something goes wrong in: what each rank has to say of it, which it also writes to a file.

    `fault`: a rank, and what MNIST_TRIALS_FAULT is there. `held_until`: the name of a file that must be there before
    rank 0 stores anything. `last_seconds`: by rank, how long a save may take after an error. `alone`: the
    process ends where its training fails.
    """
    channel = RecordingChannel()
    environment = {"MNIST_TRIALS_FAULT": fault[1]} if fault and fault[0] == layout.rank else {}
    end = ""
    with (
        patch.object(background, "PAUSES", (0.0, 0.0)),
        patch.object(background, "_LAST_SECONDS", (last_seconds or {}).get(layout.rank, 60.0)),
        patch.dict(os.environ, environment),
        opened(layout, folder, channel=channel) as context,
    ):
        if held_until is not None:
            context.storage = Held(context.storage, folder / held_until)
        try:
            mt.Trainer(trial(context), context).fit(**arguments)
        except (RuntimeError, ZeroDivisionError, MnistTrialsError) as error:
            end = f"{type(error).__name__}: {error}"
    notices = [event.message for event in channel.of(Notice)]
    saved = [event.checkpoint.uuid for event in channel.of(CheckpointSaved)]
    told = {"end": end, "notices": notices, "saved": saved}
    (folder / f"told-{layout.rank}").write_text(repr(told), encoding="utf-8")
    if alone and end:
        os._exit(1)  # as a worker does
    return told
