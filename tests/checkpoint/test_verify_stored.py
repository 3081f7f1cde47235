"""A checkpoint is checked where it lies, as far as its storage tells."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from mnist_trials.checkpoint import CheckpointContent, write_checkpoint
from mnist_trials.checkpoint.verification import verify_stored
from mnist_trials.errors import CheckpointDamaged, CheckpointError
from mnist_trials.plugin import CheckpointStorage, get_plugins


@pytest.fixture
def remote(tmp_path: Path) -> CheckpointStorage:
    storage: CheckpointStorage = get_plugins().find("checkpoint_storage", "memory").factory({}, tmp_path / "memory")
    return storage


def test_one_that_is_whole_passes(
    storage: CheckpointStorage, remote: CheckpointStorage, content: CheckpointContent
) -> None:
    for place in (storage, remote):
        write_checkpoint(place, "first", content)
        verify_stored(place, "first")


def test_in_a_folder_every_byte_is_read_again(storage: CheckpointStorage, content: CheckpointContent) -> None:
    folder = Path(write_checkpoint(storage, "first", content).location)
    for path in sorted(folder.iterdir()):
        before = path.read_bytes()
        path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        with pytest.raises(CheckpointDamaged, match=path.name):
            verify_stored(storage, "first")
        path.write_bytes(before)
    (folder / "extra").touch()
    with pytest.raises(CheckpointDamaged, match="extra does not belong to the checkpoint"):
        verify_stored(storage, "first")


def test_elsewhere_the_manifest_and_the_sizes_are(remote: CheckpointStorage, content: CheckpointContent) -> None:
    location = write_checkpoint(remote, "first", content).location
    place, files = location.removeprefix("memory:/"), fsspec.filesystem("memory")
    whole = files.cat_file(f"{place}/model.safetensors")
    files.pipe_file(f"{place}/model.safetensors", whole[:-1])
    with pytest.raises(CheckpointDamaged, match=f"model.safetensors has {len(whole) - 1} bytes and must have"):
        verify_stored(remote, "first")
    files.rm_file(f"{place}/model.safetensors")
    with pytest.raises(CheckpointDamaged, match=r"model.safetensors is missing"):
        verify_stored(remote, "first")
    files.pipe_file(f"{place}/manifest.json", b"{}")
    with pytest.raises(CheckpointDamaged, match=r"manifest.json"):
        verify_stored(remote, "first")


def test_one_that_is_gone_is_damaged(
    storage: CheckpointStorage, remote: CheckpointStorage, content: CheckpointContent
) -> None:
    for place in (storage, remote):
        write_checkpoint(place, "second", content)
        with pytest.raises(CheckpointDamaged, match="not there any more"):
            verify_stored(place, "first")


def test_a_storage_that_holds_nothing_tells_of_no_damage(storage: CheckpointStorage, remote: CheckpointStorage) -> None:
    for place in (storage, remote):
        with pytest.raises(CheckpointError, match="mounted") as caught:
            verify_stored(place, "first")
        assert not isinstance(caught.value, CheckpointDamaged)


def test_a_folder_that_cannot_be_listed_is_no_damage(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    options = {"container_path": str(tmp_path / "file")}
    storage = get_plugins().find("checkpoint_storage", "directory").factory(options, tmp_path)
    with pytest.raises(CheckpointError) as caught:
        verify_stored(storage, "first")
    assert not isinstance(caught.value, CheckpointDamaged)
