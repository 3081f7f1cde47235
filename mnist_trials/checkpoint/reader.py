"""Reading a checkpoint. Nothing in it is ever unpickled or run."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mnist_trials.checkpoint.content import CheckpointContent
from mnist_trials.checkpoint.manifest import MODEL, OPTIMIZER, STATE, Manifest
from mnist_trials.checkpoint.safetensors_file import read_tensors
from mnist_trials.checkpoint.tensors import decode
from mnist_trials.checkpoint.verification import check_listing, read_verified, verify_file
from mnist_trials.errors import CheckpointDamaged


def read_checkpoint(folder: Path, *, weights_only: bool = False) -> tuple[Manifest, CheckpointContent]:
    """The checkpoint in `folder`, all tensors on the CPU, after every file was checked against the manifest.

    With `weights_only` the content's `state` is empty; the files it would come from are checked all the same.

    Raises:
        CheckpointDamaged: a file is missing, too many, of another size, or has other content; the text says which.
        CheckpointError: there is no such folder, it cannot be read, or a newer version of the format wrote it.
    """
    manifest = check_listing(folder)
    kept = (MODEL,) if weights_only else (MODEL, OPTIMIZER, STATE)

    def read(name: str) -> memoryview | None:
        path, entry = folder / name, manifest.files[name]
        if name in kept:
            return read_verified(path, entry)
        verify_file(path, entry)
        return None

    # Most of the time goes into digests, which do not hold each other up.
    with ThreadPoolExecutor(max(1, len(manifest.files))) as pool:
        found = dict(zip(manifest.files, pool.map(read, manifest.files), strict=True))
    content = {name: data for name, data in found.items() if data is not None}
    try:
        model = read_tensors(content.pop(MODEL), manifest.tied)
        state = (
            {}
            if weights_only
            else decode(json.loads(bytes(content[STATE])), read_tensors(content.pop(OPTIMIZER), aligned=True))
        )
    except (KeyError, ValueError, RecursionError) as error:
        raise CheckpointDamaged(
            f"{folder}: the files match the manifest but are not what format {manifest.format_version} says: {error}."
        ) from error
    return manifest, CheckpointContent(
        model=model,
        state=state,
        batches=manifest.batches,
        epochs=manifest.epochs,
        records=manifest.records,
        metrics=manifest.metrics,
        hparams=manifest.hparams,
        trial_class=manifest.trial_class,
        experiment_id=manifest.experiment_id,
        trial_id=manifest.trial_id,
        config=manifest.config,
        code=manifest.code,
    )
