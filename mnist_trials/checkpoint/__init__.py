"""What a checkpoint is: its files, its manifest, the checks that it is undamaged; not where it lies.

docs/checkpoints.md describes the format. Names are fetched when first used: `read_manifest` and `verify` need no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mnist_trials.checkpoint.content import CheckpointContent as CheckpointContent
    from mnist_trials.checkpoint.ids import new_checkpoint_id as new_checkpoint_id
    from mnist_trials.checkpoint.manifest import Manifest as Manifest
    from mnist_trials.checkpoint.manifest import read_manifest as read_manifest
    from mnist_trials.checkpoint.parts import Gathering as Gathering
    from mnist_trials.checkpoint.parts import Parts as Parts
    from mnist_trials.checkpoint.reader import read_checkpoint as read_checkpoint
    from mnist_trials.checkpoint.verification import verify as verify
    from mnist_trials.checkpoint.writer import Snapshot as Snapshot
    from mnist_trials.checkpoint.writer import take_snapshot as take_snapshot
    from mnist_trials.checkpoint.writer import write_checkpoint as write_checkpoint
    from mnist_trials.checkpoint.writer import write_snapshot as write_snapshot

_HOMES = {
    "CheckpointContent": "content",
    "Gathering": "parts",
    "Manifest": "manifest",
    "Parts": "parts",
    "Snapshot": "writer",
    "new_checkpoint_id": "ids",
    "read_checkpoint": "reader",
    "read_manifest": "manifest",
    "take_snapshot": "writer",
    "verify": "verification",
    "write_checkpoint": "writer",
    "write_snapshot": "writer",
}

__all__ = [
    "CheckpointContent",
    "Gathering",
    "Manifest",
    "Parts",
    "Snapshot",
    "new_checkpoint_id",
    "read_checkpoint",
    "read_manifest",
    "take_snapshot",
    "verify",
    "write_checkpoint",
    "write_snapshot",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'mnist_trials.checkpoint' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"mnist_trials.checkpoint.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_HOMES))
