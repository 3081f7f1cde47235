import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from mnist_trials.errors import CheckpointError, PluginError
from mnist_trials.plugin import CheckpointStorage, get_plugins
from mnist_trials.testing import CheckpointStorageSuite
from mnist_trials.testing.storage_process import write, write_files


def make(options: Mapping[str, Any], default_root: Path = Path("/nonexistent")) -> CheckpointStorage:
    storage: CheckpointStorage = get_plugins().find("checkpoint_storage", "directory").factory(options, default_root)
    return storage


class TestDirectory(CheckpointStorageSuite):
    plugin = "directory"

    @override
    def options(self, root: Path) -> Mapping[str, Any]:
        return {"container_path": str(root / "checkpoints")}


class TestDirectoryWithoutOptions(CheckpointStorageSuite):
    plugin = "directory"


def test_without_options_it_lies_at_the_default_root(tmp_path: Path) -> None:
    storage = make({}, tmp_path / "home" / "7")
    write(storage, "first")
    assert (tmp_path / "home" / "7" / "first" / "manifest.json").is_file()
    assert storage.locate("first") == str(tmp_path / "home" / "7" / "first")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"container_pth": "/x"},
            "does not take 'container_pth'. Did you mean 'container_path'? It takes: container_path",
        ),
        ({"host_path": "/x"}, "does not take 'host_path'"),
        ({"container_path": "relative/x"}, "must be an absolute path"),
        ({"container_path": "~/x"}, "must be an absolute path"),
        ({"container_path": ""}, "must be text that is not empty"),
        ({"container_path": "/a\0b"}, "must be text that is not empty"),
        ({"container_path": 3}, "not 3"),
    ],
)
def test_options_it_cannot_take_are_refused(options: Mapping[str, Any], message: str) -> None:
    with pytest.raises(PluginError) as error:
        make(options)
    assert message in str(error.value)
    assert "the checkpoint storage 'directory'" in str(error.value).lower()


def test_a_place_that_cannot_be_written_is_named_with_the_cause(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    storage = make({"container_path": str(tmp_path / "file" / "checkpoints")})
    with pytest.raises(CheckpointError) as error:
        storage.begin("first")
    assert f"could not be begun in {tmp_path}/file/checkpoints: Not a directory" in str(error.value)
    assert "Make room or give write permission there" in str(error.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_write_permission_is_an_error_of_its_own(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(CheckpointError, match="Permission denied"):
        make({"container_path": str(tmp_path)}).begin("first")


def test_a_folder_that_cannot_be_listed_is_an_error_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointError, match="cannot be listed: Not a directory"):
        make({"container_path": str(tmp_path / "file")}).ids()


def test_one_is_examined_without_a_listing_which_may_be_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a network file system gives one on another machine than the one that has just written."""
    storage = make({}, tmp_path)
    write(storage, "first")
    monkeypatch.setattr(os, "listdir", lambda _folder: [])
    assert storage.ids() == []
    assert storage.examine("first") is not None
    assert storage.examine("second") is None


def test_what_is_no_checkpoint_is_not_listed(tmp_path: Path) -> None:
    storage = make({"container_path": str(tmp_path)})
    write(storage, "good")
    (tmp_path / "file").write_text("x")
    (tmp_path / "no-manifest").mkdir()
    (tmp_path / "manifest-is-a-folder" / "manifest.json").mkdir(parents=True)
    (tmp_path / "not an id").mkdir()
    (tmp_path / "not an id" / "manifest.json").write_text("{}")
    assert storage.ids() == ["good"]


def test_symbolic_links_are_not_followed_out_of_the_root(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "manifest.json").write_text("{}")
    storage = make({"container_path": str(tmp_path / "root")})
    write(storage, "good")
    (tmp_path / "root" / "linked").symlink_to(outside)
    (tmp_path / "root" / ".tmp-half").symlink_to(outside)

    assert storage.ids() == ["good"]
    with pytest.raises(CheckpointError, match="There is no checkpoint 'linked'"):
        storage.fetch("linked")
    with pytest.raises(CheckpointError, match="already a checkpoint 'linked'"):
        storage.begin("linked")
    with pytest.raises(CheckpointError, match="was not begun"):
        storage.commit("half")
    write(storage, "half")
    storage.delete("linked")

    assert storage.ids() == ["good", "half"]
    assert [path.name for path in outside.iterdir()] == ["manifest.json"]


def test_an_unknown_checkpoint_gets_the_nearest_name(tmp_path: Path) -> None:
    storage = make({"container_path": str(tmp_path)})
    write(storage, "d1e8a1f0")
    with pytest.raises(CheckpointError, match=r"which holds 1\. Did you mean 'd1e8a1f0'\?"):
        storage.fetch("d1e8a1f1")


def test_everything_is_made_durable_before_it_is_visible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[str, list[str]]] = []
    storage = make({"container_path": str(tmp_path / "new" / "place")})

    def record(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced.append((str(path.relative_to(tmp_path)), storage.ids()))

    monkeypatch.setattr(os, "fsync", record)
    write(storage, "first")
    staging = "new/place/.tmp-first"
    assert synced == [
        (".", []),  # so that the new folders themselves survive a power cut
        ("new", []),
        *((f"{staging}/{name}", []) for name in ("empty", "model.safetensors", "state.json", "manifest.json")),
        (staging, []),
        ("new/place", ["first"]),
    ]


def test_a_commit_that_is_not_durable_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = make({"container_path": str(tmp_path)})
    write_files(storage.begin("first"))

    def fail(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink() == tmp_path:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(CheckpointError, match="Input/output error"):
        storage.commit("first")
    assert storage.ids() == []
