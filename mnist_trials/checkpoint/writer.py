"""Writing a checkpoint."""

from __future__ import annotations

import hashlib
import json
import platform
import uuid
from collections.abc import Mapping
from contextlib import suppress
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
from mnist_trials.checkpoint.safetensors_file import RESERVED, shared, storable, write_tensors
from mnist_trials.checkpoint.tensors import encode
from mnist_trials.errors import CheckpointError
from mnist_trials.events import finite
from mnist_trials.plugin import MANIFEST, CheckpointStorage
from mnist_trials.records import CheckpointInfo
from mnist_trials.testing.faults import fault_point


def new_checkpoint_id() -> str:
    """An id that no other checkpoint has: a random UUID."""
    return str(uuid.uuid4())


def write_checkpoint(storage: CheckpointStorage, checkpoint_id: str, content: CheckpointContent) -> CheckpointInfo:
    """Write `content` as the checkpoint `checkpoint_id`; when this returns it is durable and visible as a whole.

    After a kill at any moment the checkpoint is either wholly there or not at all.

    Raises:
        CheckpointError: something in `content` cannot be kept in a checkpoint (the text names it by its dotted path),
            or the storage is full or not writable. Nothing is visible under the id then.
    """
    parts = _prepare(content)
    folder = storage.begin(checkpoint_id)
    try:
        fault_point("checkpoint.begun")
        size = _write_files(folder, parts)
        storage.commit(checkpoint_id)
        fault_point("checkpoint.committed")
    except BaseException as error:
        # What was written of it would fill a disk that may be full already.
        with suppress(CheckpointError):
            storage.delete(checkpoint_id)
        if isinstance(error, OSError):
            raise CheckpointError(
                f"The checkpoint '{checkpoint_id}' could not be written to {folder}: {error.strerror or error}. "
                "Make room or give write permission there, or name another place in checkpoint_storage."
            ) from error
        raise
    return CheckpointInfo(
        uuid=checkpoint_id,
        batches=content.batches,
        epochs=content.epochs,
        records=content.records,
        metrics=parts.manifest.metrics,
        bytes=size,
        location=storage.locate(checkpoint_id),
    )


@final
@dataclass(frozen=True, slots=True)
class _Parts:
    """A checkpoint's content in the shape of its files; made whole before the first of them is written."""

    model: Mapping[str, torch.Tensor]
    tensors: Mapping[str, torch.Tensor]
    state: bytes
    manifest: Manifest  # as yet without files


def _prepare(content: CheckpointContent) -> _Parts:
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
    return _Parts({name: model[name] for name in model if name not in tied}, tensors, state, manifest)


def _storable(model: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    tensors = {}
    for name, tensor in model.items():
        if name == RESERVED:
            raise CheckpointError(f"A tensor of the model is named '{RESERVED}', which safetensors files cannot hold.")
        try:
            tensors[name] = storable(tensor)
        except TypeError as error:
            raise CheckpointError(f"{name} of the model cannot be kept in a checkpoint: it is {error}.") from error
    return tensors


def _write_files(folder: Path, parts: _Parts) -> int:
    """Write all files, the manifest last, and return their size in bytes. The storage makes them durable."""
    files = {MODEL: write_tensors(folder / MODEL, parts.model)}
    fault_point("checkpoint.model_written")
    files[OPTIMIZER] = write_tensors(folder / OPTIMIZER, parts.tensors)
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
