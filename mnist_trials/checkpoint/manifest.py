"""The manifest of a checkpoint: what the checkpoint is, and size and SHA-256 of every other file in it.

The manifest vouches for itself as well: its last key, `sha256`, is the digest of the document without that key, and its
bytes are exactly what `_dumps` makes of the document. So one changed bit in it is found like one in any other file.
This rule holds for every version of the format, so that damage is never mistaken for a newer version.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, final

from mnist_trials.errors import CheckpointDamaged, CheckpointError
from mnist_trials.plugin import MANIFEST
from mnist_trials.records import MetricValues

FORMAT: Final = "mnist-trials checkpoint"
FORMAT_VERSION: Final = 1
"""Goes up with every change that an older reader would misread."""

MODEL: Final = "model.safetensors"
OPTIMIZER: Final = "optimizer.safetensors"
STATE: Final = "state.json"


@final
@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a checkpoint as it must be."""

    size: int  # bytes
    sha256: str  # in hexadecimal


@final
@dataclass(frozen=True, slots=True)
class View:
    """A tensor that shares the memory of another one and is therefore not stored itself.

    `torch.as_strided(tensors[tensor], shape, stride, offset)` brings it back; the numbers count elements.
    """

    tensor: str  # the name of the one that is stored
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> View:
        """The view behind `asdict`'s document, lists where that had tuples."""
        return cls(document["tensor"], document["offset"], tuple(document["shape"]), tuple(document["stride"]))


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What `manifest.json` says. All mappings are strict JSON."""

    batches: int
    epochs: float
    records: int
    metrics: MetricValues
    hparams: Mapping[str, Any]
    trial_class: str
    experiment_id: int
    trial_id: int
    config: Mapping[str, Any]
    code: str | None
    libraries: Mapping[str, str]  # name to version, of what wrote the checkpoint
    tied: Mapping[str, View]  # tensors of the model that share another one's memory
    files: Mapping[str, FileEntry]
    format_version: int = FORMAT_VERSION

    def to_bytes(self) -> bytes:
        """The content of `manifest.json`.

        Raises:
            CheckpointError: a value is not strict JSON; the text names it by its dotted path.
        """
        document = {
            "format": FORMAT,
            "format_version": self.format_version,
            "trial_class": self.trial_class,
            "experiment_id": self.experiment_id,
            "trial_id": self.trial_id,
            "steps": {"batches": self.batches, "epochs": self.epochs, "records": self.records},
            "metrics": dict(self.metrics),
            "hyperparameters": dict(self.hparams),
            "config": dict(self.config),
            "code": self.code,
            "libraries": dict(self.libraries),
            "tied": {name: asdict(view) for name, view in self.tied.items()},
            "files": {name: asdict(entry) for name, entry in self.files.items()},
        }
        _require_json(document, "")
        return _dumps({**document, "sha256": _digest(document)})

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Manifest:
        """The manifest in `data`; `where` says in errors which checkpoint it is of.

        Raises:
            CheckpointDamaged: it is not a manifest, or was changed after it was written.
            CheckpointError: it was written by a newer version of the format.
        """
        document = _unsealed(data, where)
        try:
            steps = document["steps"]
            return cls(
                format_version=document["format_version"],
                batches=steps["batches"],
                epochs=steps["epochs"],
                records=steps["records"],
                metrics=document["metrics"],
                hparams=document["hyperparameters"],
                trial_class=document["trial_class"],
                experiment_id=document["experiment_id"],
                trial_id=document["trial_id"],
                config=document["config"],
                code=document["code"],
                libraries=document["libraries"],
                tied={name: View.from_json(view) for name, view in document["tied"].items()},
                files={name: FileEntry(**entry) for name, entry in document["files"].items()},
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise CheckpointDamaged(f"{where}: {MANIFEST} lacks or misstates what it must say: {error!r}.") from error


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the checkpoint in `folder`; the other files are not looked at (`verify` does that).

    Raises:
        CheckpointDamaged: there is no manifest, or it was changed after it was written.
        CheckpointError: there is no such folder, it cannot be read, or a newer version of the format wrote it.
    """
    if not folder.is_dir():
        raise CheckpointError(f"There is no checkpoint at {folder}: no such folder.")
    try:
        data = (folder / MANIFEST).read_bytes()
    except FileNotFoundError as error:
        raise CheckpointDamaged(f"{folder}: {MANIFEST} is missing; a folder without it is no checkpoint.") from error
    except OSError as error:
        raise unreadable(folder / MANIFEST, error) from error
    return Manifest.from_bytes(data, str(folder))


def unreadable(path: Path, error: OSError) -> CheckpointError:
    """What to raise when a file of a checkpoint cannot be read."""
    # The device's own checks failed: the content is lost, where any other error may pass.
    kind = CheckpointDamaged if error.errno == errno.EIO else CheckpointError
    return kind(f"{path.parent}: {path.name} cannot be read: {error.strerror}.")


def _unsealed(data: bytes, where: str) -> dict[str, Any]:
    """The document in `data`, once its own digest, its bytes and its version are found to be right."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CheckpointDamaged(f"{where}: {MANIFEST} is not JSON: {error}.") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise CheckpointDamaged(f"{where}: {MANIFEST} is not the manifest of a checkpoint.")
    version = document.get("format_version")
    newer = isinstance(version, int) and version > FORMAT_VERSION
    advice = (
        f"it says it was written in format {version}, and this mnist-trials reads formats up to {FORMAT_VERSION}; "
        "use a newer mnist-trials"
    )
    if not (_is_intact(document, data) or (newer and "sha256" not in document)):
        raise CheckpointDamaged(
            f"{where}: {MANIFEST} was changed after it was written: it does not match its own SHA-256"
            f"{f' ({advice})' if newer else ''}."
        )
    if newer:
        raise CheckpointError(f"{where}: {advice}.")
    return document


def _is_intact(document: dict[str, Any], data: bytes) -> bool:
    body = {key: value for key, value in document.items() if key != "sha256"}
    try:
        return document.get("sha256") == _digest(body) and _dumps(document) == data
    except ValueError:  # NaN or an infinity, which Python's reader lets pass
        return False


def _digest(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(_dumps(document)).hexdigest()


def _dumps(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, indent=2, allow_nan=False).encode("ascii") + b"\n"


def _require_json(value: Any, path: str) -> None:
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise CheckpointError(f"The key {key!r} of {path} is not text, and JSON knows no other keys.")
            _require_json(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _require_json(item, f"{path}.{index}")
    elif isinstance(value, float) and not math.isfinite(value):
        raise CheckpointError(f"{path} is {value}, which JSON cannot hold; give a finite number.")
    elif value is not None and not isinstance(value, str | int | float):
        raise CheckpointError(
            f"{path} is of type {type(value).__module__}.{type(value).__qualname__}, which JSON cannot hold; "
            "give text, numbers, booleans, null, lists or maps."
        )
