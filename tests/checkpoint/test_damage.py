import hashlib
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mnist_trials.checkpoint import CheckpointContent, read_checkpoint, read_manifest, verify, write_checkpoint
from mnist_trials.errors import CheckpointDamaged, CheckpointError
from mnist_trials.plugin import CheckpointStorage

NAMES = ["manifest.json", "model.safetensors", "optimizer.safetensors", "state.json"]


@pytest.fixture
def folder(storage: CheckpointStorage, content: CheckpointContent) -> Path:
    return Path(write_checkpoint(storage, "first", content).location)


def damage_of(folder: Path) -> str:
    """What is said of the damage; the same by each way of reading."""
    said = set()
    for read in (verify, read_checkpoint, lambda folder: read_checkpoint(folder, weights_only=True)):
        with pytest.raises(CheckpointDamaged) as error:
            read(folder)
        said.add(str(error.value))
    (text,) = said
    assert text.startswith(f"{folder}: ")
    return text


@pytest.mark.parametrize("name", NAMES)
def test_every_flipped_bit_is_found(folder: Path, name: str) -> None:
    path = folder / name
    whole = path.read_bytes()
    dice = random.Random(name)
    places = dice.sample(range(len(whole) * 8), 150)
    for place in [0, len(whole) * 8 - 1, *places]:
        changed = bytearray(whole)
        changed[place // 8] ^= 1 << place % 8
        path.write_bytes(changed)
        with pytest.raises(CheckpointDamaged, match=name):
            verify(folder)
    path.write_bytes(whole)
    verify(folder)


@pytest.mark.parametrize("name", NAMES)
def test_a_flipped_bit_is_found_by_each_way_of_reading(folder: Path, name: str) -> None:
    changed = bytearray((folder / name).read_bytes())
    changed[len(changed) // 2] ^= 4
    (folder / name).write_bytes(changed)
    assert name in damage_of(folder)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("left", [0, 1, -1])
def test_a_truncated_file_is_found(folder: Path, name: str, left: int) -> None:
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[:left])
    text = damage_of(folder)
    assert name in text
    if name != "manifest.json":
        assert text.endswith(f"{name} has {len(whole[:left])} bytes and must have {len(whole)}.")


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_grew_is_found(folder: Path, name: str) -> None:
    with (folder / name).open("ab") as file:
        file.write(b"\n")
    assert name in damage_of(folder)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_file_is_found(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert f"{name} is missing" in damage_of(folder)


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir], ids=["file", "folder"])
def test_a_file_too_many_is_found(folder: Path, make: Callable[[Path], None]) -> None:
    make(folder / "more.safetensors")
    assert damage_of(folder).endswith("more.safetensors does not belong to the checkpoint.")


def test_a_file_that_is_a_link_or_a_folder_is_found(folder: Path, tmp_path: Path) -> None:
    (folder / "state.json").rename(tmp_path / "elsewhere")
    (folder / "state.json").symlink_to(tmp_path / "elsewhere")
    assert damage_of(folder).endswith("state.json is not a regular file.")
    (folder / "state.json").unlink()
    (folder / "state.json").mkdir()
    assert damage_of(folder).endswith("state.json is not a regular file.")


def test_two_files_that_changed_places_are_found(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").rename(tmp_path / "x")
    (folder / "optimizer.safetensors").rename(folder / "model.safetensors")
    (tmp_path / "x").rename(folder / "optimizer.safetensors")
    assert "model.safetensors has" in damage_of(folder)


def rewrite(folder: Path, change: dict[str, Any], *, sealed: bool) -> None:
    """Change the manifest; with `sealed` as a writer would that knows the format."""
    document = {**json.loads((folder / "manifest.json").read_text()), **change}
    if sealed:
        del document["sha256"]
        document["sha256"] = hashlib.sha256((json.dumps(document, indent=2) + "\n").encode()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(document, indent=2) + "\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "is not the manifest of a checkpoint"),
        (b"{}", "is not the manifest of a checkpoint"),
        (b'{"format": "mnist-trials checkpoint"}', "does not match its own SHA-256"),
        (b'{"format": "mnist-trials checkpoint", "x": NaN}', "does not match its own SHA-256"),
    ],
)
def test_a_manifest_that_is_none_is_found(folder: Path, text: bytes, message: str) -> None:
    (folder / "manifest.json").write_bytes(text)
    assert message in damage_of(folder)


def test_a_manifest_with_other_spaces_is_found(folder: Path) -> None:
    document = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(document))
    assert "does not match its own SHA-256" in damage_of(folder)


@pytest.mark.parametrize(
    "change", [{"steps": {}}, {"files": []}, {"files": {"a": {"size": 1}}}, {"tied": {"a": {}}}, {"files": None}]
)
def test_a_manifest_of_another_shape_is_found(folder: Path, change: dict[str, Any]) -> None:
    rewrite(folder, change, sealed=True)
    assert "manifest.json lacks or misstates what it must say" in damage_of(folder)


def test_files_that_match_the_manifest_but_not_the_format_are_found(folder: Path) -> None:
    entry = {"size": 3, "sha256": hashlib.sha256(b"{]}").hexdigest()}
    files = json.loads((folder / "manifest.json").read_text())["files"]
    for name in ("state.json", "model.safetensors"):
        (folder / name).write_bytes(b"{]}")
        rewrite(folder, {"files": {**files, name: entry}}, sealed=True)
        verify(folder)
        with pytest.raises(CheckpointDamaged, match="the files match the manifest but are not what format 1 says"):
            read_checkpoint(folder)
        files[name] = entry


def test_a_manifest_cannot_name_files_outside(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    entry = {"size": 1, "sha256": hashlib.sha256(b"x").hexdigest()}
    rewrite(folder, {"files": {"../../secret": entry}}, sealed=True)
    assert "../../secret is missing" in damage_of(folder)


@pytest.mark.parametrize("sealed", [True, False])
def test_a_newer_format_is_refused_with_the_way_out(folder: Path, *, sealed: bool) -> None:
    rewrite(folder, {"format_version": 7}, sealed=sealed)
    for read in (read_manifest, verify, read_checkpoint):
        with pytest.raises(CheckpointError) as error:
            read(folder)
        assert isinstance(error.value, CheckpointDamaged) is not sealed
        assert "written in format 7, and this mnist-trials reads formats up to 1; use a newer" in str(error.value)


def test_a_newer_format_without_our_digest_is_refused_as_newer(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"format": "mnist-trials checkpoint", "format_version": 2}')
    with pytest.raises(CheckpointError, match="use a newer mnist-trials") as error:
        read_manifest(folder)
    assert not isinstance(error.value, CheckpointDamaged)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_not_called_damaged(folder: Path) -> None:
    (folder / "state.json").chmod(0)
    with pytest.raises(CheckpointError, match=r"state\.json cannot be read: Permission denied") as error:
        verify(folder)
    assert not isinstance(error.value, CheckpointDamaged)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_the_device_gives_up_on_is_damaged(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    really_open = Path.open

    def fail(path: Path, mode: str = "r", *rest: Any, **named: Any) -> Any:
        if path.name == name:
            raise OSError(5, "Input/output error")
        return really_open(path, mode, *rest, **named)

    monkeypatch.setattr(Path, "open", fail)
    assert f"{name} cannot be read: Input/output error" in damage_of(folder)
