"""Programs in files: the graph as torch.export writes it, the state beside it, a manifest that is written last."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file

from mnist_trials.errors import ProgramError
from mnist_trials.programs.graph import Graph
from mnist_trials.programs.specs import TensorSpec

GRAPH: Final = "program.pt2"
STATE: Final = "state.safetensors"
HELD: Final = "held.safetensors"
MANIFEST: Final = "program.json"
VERSION: Final = 1

_PARTS: Final = (
    "models/model.json",
    "data/weights/model_weights_config.json",
    "data/constants/model_constants_config.json",
    "data/sample_inputs/model.pt",  # empty
    "archive_format",
    "archive_version",
    "byteorder",
    ".data/version",
    ".data/serialization_id",
)
"""What `save` has in the file of the graph. torch would unpickle most other parts, and load libraries among them."""

Loaded = tuple[Graph, dict[str, torch.Tensor], list[str], dict[str, float]]


def save(
    graph: Graph,
    state: Mapping[str, torch.Tensor],
    weights: Sequence[str],
    settings: Mapping[str, float],
    folder: Path,
) -> None:
    """Write a program into `folder`. The arguments are those of `Program`.

    Raises:
        ProgramError: the folder cannot be written, or exists.
    """
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise ProgramError(f"The program cannot be saved in {folder}: {error.strerror or error}.") from error
    try:
        exported = graph.exported()
        exported._example_inputs = None  # torch.export would pickle them
        torch.export.save(exported, folder / GRAPH)
        save_file({name: _dense(tensor) for name, tensor in state.items()}, folder / STATE)
        save_file({name: _dense(tensor) for name, tensor in graph.held.items()}, folder / HELD)
        manifest = {
            "version": VERSION,
            "torch": torch.__version__,
            "signature": graph.signature(),
            "weights": list(weights),
            "settings": dict(settings),
            "operations": graph.operations(),
            "sha256": {name: _digest(folder / name) for name in (GRAPH, STATE, HELD)},
        }
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def load(folder: Path) -> Loaded:
    """What `save` was given.

    Raises:
        ProgramError: it is no folder of `save`, of another version, or damaged.
    """
    manifest = _manifest(folder)
    for name in (GRAPH, STATE, HELD):
        if not (folder / name).is_file() or _digest(folder / name) != manifest["sha256"].get(name):
            raise ProgramError(f"The program in {folder} is damaged: {name} is not what the manifest says.")
    signature = manifest["signature"]
    specs = {
        part: {name: TensorSpec.from_json(spec) for name, spec in signature[part].items()}
        for part in ("state", "inputs", "outputs")
    }
    device = signature["device"]
    held = {name: tensor.to(device) for name, tensor in load_file(folder / HELD).items()}
    graph = Graph(
        signature["name"],
        _module(folder / GRAPH),
        specs["state"],
        {name: held[name] for name in signature["held"]},
        specs["inputs"],
        specs["outputs"],
        device,
    )
    return graph, load_file(folder / STATE), list(manifest["weights"]), dict(manifest["settings"])


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ProgramError(f"There is no program in {folder}: {MANIFEST} cannot be read ({error}).") from error
    if not isinstance(manifest, dict):
        raise ProgramError(f"There is no program in {folder}: {MANIFEST} holds no map.")
    if manifest.get("version") != VERSION:
        raise ProgramError(
            f"The program in {folder} is of format version {manifest.get('version')}; this version reads {VERSION}."
        )
    if missing := [key for key in ("signature", "weights", "settings", "sha256") if key not in manifest]:
        raise ProgramError(f"The program in {folder} is damaged: {MANIFEST} has no {' and no '.join(missing)}.")
    return manifest


def _module(path: Path) -> torch.fx.GraphModule:
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            inner = entry.filename.partition("/")[2]
            if inner not in _PARTS or (inner.endswith(".pt") and entry.file_size):
                raise ProgramError(
                    f"{path} holds {inner or entry.filename}, which programs saved here do not: torch would unpickle "
                    "it, or run it."
                )
    module: torch.fx.GraphModule = torch.export.load(path).graph_module
    return module


def _dense(tensor: torch.Tensor) -> torch.Tensor:
    """As safetensors takes it."""
    return tensor.detach().cpu().contiguous().clone()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
