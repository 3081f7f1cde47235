"""Checkpoints by folder, URL and id, without any store."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from fsspec.registry import _registry

from mnist_trials.checkpoint import read_manifest
from mnist_trials.checkpoint.named import fetched, find_checkpoint, storage_at
from mnist_trials.errors import CheckpointError, PluginError

REAL = Path(__file__).parent / "fixtures" / "format-1"
UUID = "0123abcd-0000-4000-8000-000000000000"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MNIST_TRIALS_HOME", str(tmp_path))
    shutil.copytree(REAL, tmp_path / "checkpoints" / "3" / UUID)
    return tmp_path


def test_every_name_leads_to_it(home: Path) -> None:
    folder = home / "checkpoints" / "3" / UUID
    for name in (folder, str(folder), UUID, UUID[:6], f"file://{folder}", f"file://{folder}/"):
        with fetched(name) as found:
            assert found.samefile(folder)
            assert read_manifest(found) == read_manifest(REAL)


def test_an_id_must_be_of_one_and_of_one_only(home: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"There is no checkpoint 'ffff'.*give the path of its folder, or its URL"
    ):
        find_checkpoint("ffff")
    shutil.copytree(REAL, home / "scripts" / "train" / "checkpoints" / f"{UUID[:-1]}1")
    with pytest.raises(CheckpointError, match="'0123abcd' is the beginning of 2 checkpoints"):
        find_checkpoint("0123abcd")


@pytest.mark.parametrize("url", ["s3://bucket", "s3://bucket/", "s3:///", "://", "file:///"])
def test_what_names_no_folder_is_no_url_of_a_checkpoint(url: str) -> None:
    with pytest.raises(CheckpointError, match="is not the URL of a checkpoint, which is that of its folder"):
        storage_at(url)


def test_a_password_is_not_told() -> None:
    with pytest.raises(CheckpointError) as told:
        storage_at("memory://me:hunter2@x/1234")
    assert "hunter2" not in str(told.value)


@pytest.mark.parametrize(("protocol", "library", "extra"), [("s3", "s3fs", "s3"), ("az", "adlfs", "azure")])
def test_a_library_that_is_missing_is_named_with_what_installs_it(
    protocol: str, library: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(_registry, protocol, raising=False)  # another test may have used it
    with pytest.raises(PluginError, match=rf"{library} is not installed; .*pip install 'mnist-trials\[{extra}\]'"):
        storage_at(f"{protocol}://bucket/folder/1234")
