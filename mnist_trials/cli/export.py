"""`export`: a checkpoint's weights for use elsewhere."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_trials.cli.checkpoint_lookup import WHICH, found
from mnist_trials.cli.command import Command, Invocation
from mnist_trials.cli.screen import plain
from mnist_trials.errors import UsageError

if TYPE_CHECKING:
    import torch


def _export(call: Invocation) -> int:
    from mnist_trials.checkpoint import read_checkpoint

    target = Path(call.arguments.to)
    require_empty(target)
    with found(call, call.arguments.checkpoint) as checkpoint:
        manifest, content = read_checkpoint(checkpoint.folder, weights_only=True)
    tensors = {name: {"shape": list(t.shape), "dtype": str(t.dtype)[6:]} for name, t in content.model.items()}
    metadata = {
        "checkpoint": checkpoint.uuid,
        "experiment_id": manifest.experiment_id,
        "trial_id": manifest.trial_id,
        "trial_class": manifest.trial_class,
        "batches": manifest.batches,
        "epochs": manifest.epochs,
        "records": manifest.records,
        "metrics": manifest.metrics,
        "hyperparameters": manifest.hparams,
        "libraries": manifest.libraries,
        "tensors": tensors,
    }
    try:
        _write(target, content.model, metadata)
    except OSError as error:
        raise UsageError(f"{target} cannot be written: {error.strerror}") from error
    if call.screen.json:
        call.screen.document({"directory": str(target.absolute()), "metadata": metadata})
    call.screen.say(f"Wrote model.safetensors and metadata.json into {target}.")
    return 0


def require_empty(target: Path) -> None:
    """Check that the folder `target` of --to is empty, or not there.

    Raises:
        UsageError: it is not.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        what = "is not empty" if target.is_dir() else "is not a folder"
        raise UsageError(f"{target} {what}; --to takes a folder that is empty or not there")


def _write(target: Path, model: Mapping[str, torch.Tensor], metadata: dict[str, Any]) -> None:
    """Metadata last, so that it is there only beside whole weights."""
    from safetensors.torch import save

    target.mkdir(parents=True, exist_ok=True)
    # The file format knows no tensors that share memory: each is written out.
    weights = save({name: tensor.contiguous().clone() for name, tensor in model.items()}, {"format": "pt"})
    (target / "model.safetensors").write_bytes(weights)
    (target / "metadata.json").write_text(json.dumps(plain(metadata), indent=2, allow_nan=False) + "\n")


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help=WHICH)
    parser.add_argument("--to", metavar="DIR", required=True, help="an empty folder, or one to be made")


COMMANDS = (
    Command(
        name="export",
        group="Checkpoints",
        summary="write a checkpoint's weights and metadata for use elsewhere",
        run=_export,
        configure=_arguments,
    ),
)
