"""Writing a checkpoint."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from math import nan
from pathlib import Path
from typing import final

import numpy
import safetensors
import torch

import mnist_trials
from mnist_trials.checkpoint.content import CheckpointContent
from mnist_trials.checkpoint.manifest import MODEL, OPTIMIZER, STATE, FileEntry, Manifest
from mnist_trials.checkpoint.parts import Gathering, copied, numbered
from mnist_trials.checkpoint.safetensors_file import RESERVED, Gather, storable, write_tensors
from mnist_trials.checkpoint.sharing import shared
from mnist_trials.checkpoint.tensors import encode
from mnist_trials.errors import CheckpointError
from mnist_trials.events import finite
from mnist_trials.plugin import MANIFEST, CheckpointStorage, Line, Spread
from mnist_trials.records import CheckpointInfo
from mnist_trials.testing.faults import fault_point


def write_checkpoint(storage: CheckpointStorage, checkpoint_id: str, content: CheckpointContent) -> CheckpointInfo:
    """Write `content` as the checkpoint `checkpoint_id`; when this returns it is durable and visible as a whole.

    After a kill at any moment the checkpoint is either wholly there or not at all.

    Raises:
        CheckpointError: something in `content` cannot be kept in a checkpoint (the text names it by its dotted path),
            or the storage is full or not writable. Nothing is visible under the id then.
    """
    snapshot = _prepare(content)
    return write_snapshot(storage, checkpoint_id, snapshot, snapshot.gathering(None))


@final
@dataclass(frozen=True, slots=True)
class Snapshot:
    """A checkpoint's content in the shape of its files; made whole before the first of them is written.

    Of tensors that are spread over ranks it has what lies on this one, which is rank 0.
    """

    model: Mapping[str, torch.Tensor | Spread]
    tensors: Mapping[str, torch.Tensor | Spread]
    state: bytes
    manifest: Manifest  # as yet without files
    numbers: Mapping[Spread, int]  # by which all ranks know the tensors that are spread

    @property
    def nbytes(self) -> int:
        """The memory of the tensors that it has."""
        held = [t.own if isinstance(t, Spread) else t for part in (self.model, self.tensors) for t in part.values()]
        return sum(tensor.nbytes for tensor in held if tensor is not None)

    def gathering(self, line: Line | None) -> Gathering:
        """What puts together the tensors that are spread, over the `line` to the other ranks."""
        return Gathering(self.numbers, line)


def take_snapshot(content: CheckpointContent) -> Snapshot:
    """`content` as it is now, in memory of its own: what happens to it later does not show in the snapshot.

    Where a trial has several ranks this is called on rank 0. The others make `Parts` of theirs.

    Raises:
        CheckpointError: something in `content` cannot be kept in a checkpoint; the text names it by its dotted path.
    """
    prepared = _prepare(content)
    numbers: dict[Spread, int] = {}

    def copy_of(tensor: torch.Tensor | Spread) -> torch.Tensor | Spread:
        if not isinstance(tensor, Spread):
            return copied(tensor)
        copy = replace(tensor, own=None if tensor.own is None else copied(tensor.own))
        numbers[copy] = prepared.numbers[tensor]
        return copy

    manifest = prepared.manifest
    return Snapshot(
        model={name: copy_of(tensor) for name, tensor in prepared.model.items()},
        tensors={name: copy_of(tensor) for name, tensor in prepared.tensors.items()},
        state=prepared.state,
        manifest=replace(manifest, hparams=deepcopy(dict(manifest.hparams)), config=deepcopy(dict(manifest.config))),
        numbers=numbers,
    )


def write_snapshot(
    storage: CheckpointStorage, checkpoint_id: str, snapshot: Snapshot, gathering: Gathering
) -> CheckpointInfo:
    """Write `snapshot` as the checkpoint `checkpoint_id`, as `write_checkpoint` does; any thread may.

    `gathering` is one of `snapshot`, and may be used again where this has failed.

    Raises:
        CheckpointError: the storage is full or not writable. Nothing is visible under the id then.
        RuntimeError: another rank, which has parts of it, is gone. Nothing is visible then either.
    """
    folder = storage.begin(checkpoint_id)
    try:
        fault_point("checkpoint.begun")
        size = _write_files(folder, snapshot, gathering.whole)
        storage.commit(checkpoint_id)
        fault_point("checkpoint.committed")
    except BaseException as error:
        # What was written of it would fill a disk that may be full already.
        storage.abandon(checkpoint_id)
        if isinstance(error, OSError):
            raise CheckpointError(
                f"The checkpoint '{checkpoint_id}' could not be written to {folder}: {error.strerror or error}. "
                "Make room or give write permission there, or name another place in checkpoint_storage."
            ) from error
        raise
    manifest = snapshot.manifest
    return CheckpointInfo(
        uuid=checkpoint_id,
        batches=manifest.batches,
        epochs=manifest.epochs,
        records=manifest.records,
        metrics=manifest.metrics,
        bytes=size,
        location=storage.locate(checkpoint_id),
    )


def _prepare(content: CheckpointContent) -> Snapshot:
    """`content` in the shape of its files, sharing its memory."""
    model = _storable(content.model)
    tied = shared(model)
    document, tensors = encode(content.state)
    manifest = Manifest(
        batches=content.batches,
        epochs=content.epochs,
        records=content.records,
        metrics=finite({name: nan if value is None else value for name, value in content.metrics.items()}),
        hparams=content.hparams,
        trial_class=content.trial_class,
        experiment_id=content.experiment_id,
        trial_id=content.trial_id,
        config=content.config,
        code=content.code,
        libraries=_libraries(),
        tied=tied,
        files={},
    )
    manifest.to_bytes()  # refuses what is not JSON, before anything is written
    state = json.dumps(document, allow_nan=False, separators=(",", ":")).encode("ascii")
    untied = {name: model[name] for name in model if name not in tied}
    numbers = {spread: number for number, spread in enumerate(numbered(content).values())}
    return Snapshot(untied, tensors, state, manifest, numbers)


def _storable(model: Mapping[str, torch.Tensor | Spread]) -> dict[str, torch.Tensor | Spread]:
    tensors: dict[str, torch.Tensor | Spread] = {}
    for name, tensor in model.items():
        if name == RESERVED:
            raise CheckpointError(f"A tensor of the model is named '{RESERVED}', which safetensors files cannot hold.")
        try:
            tensors[name] = storable(tensor)
        except TypeError as error:
            raise CheckpointError(f"{name} of the model cannot be kept in a checkpoint: it is {error}.") from error
    return tensors


def _write_files(folder: Path, parts: Snapshot, gather: Gather) -> int:
    """Write all files, the manifest last, and return their size in bytes. The storage makes them durable."""
    files = {MODEL: write_tensors(folder / MODEL, parts.model, gather)}
    fault_point("checkpoint.model_written")
    files[OPTIMIZER] = write_tensors(folder / OPTIMIZER, parts.tensors, gather)
    fault_point("checkpoint.optimizer_written")
    (folder / STATE).write_bytes(parts.state)
    files[STATE] = FileEntry(len(parts.state), hashlib.sha256(parts.state).hexdigest())
    fault_point("checkpoint.state_written")
    manifest = replace(parts.manifest, files=files).to_bytes()
    (folder / MANIFEST).write_bytes(manifest)
    fault_point("checkpoint.manifest_written")
    return sum(entry.size for entry in files.values()) + len(manifest)


def _libraries() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "mnist-trials": mnist_trials.__version__,
        "torch": str(torch.__version__),
        "numpy": numpy.__version__,
        "safetensors": safetensors.__version__,
    }
