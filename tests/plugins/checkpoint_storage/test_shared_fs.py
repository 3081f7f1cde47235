from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from mnist_trials.errors import CheckpointError, PluginError
from mnist_trials.plugin import CheckpointStorage, get_plugins
from mnist_trials.testing import CheckpointStorageSuite
from mnist_trials.testing.storage_process import write


def make(options: Mapping[str, Any]) -> CheckpointStorage:
    factory = get_plugins().find("checkpoint_storage", "shared_fs").factory
    storage: CheckpointStorage = factory(options, Path("/nonexistent"))
    return storage


class TestSharedFs(CheckpointStorageSuite):
    plugin = "shared_fs"

    @override
    def options(self, root: Path) -> Mapping[str, Any]:
        return {"host_path": str(root / "mounted"), "storage_path": "mnist/checkpoints"}


@pytest.mark.parametrize(
    ("storage_path", "place"),
    [(None, ""), (".", ""), ("a", "a"), ("a/b/", "a/b"), ("a//b", "a/b"), ("./a", "a"), ("~", "~"), ("..a", "..a")],
)
def test_storage_path_lies_within_host_path(tmp_path: Path, storage_path: str | None, place: str) -> None:
    storage = make({"host_path": str(tmp_path), "storage_path": storage_path})
    write(storage, "first")
    assert (tmp_path / place / "first" / "manifest.json").is_file()


def test_an_absolute_storage_path_is_taken_where_it_lies_within_host_path(tmp_path: Path) -> None:
    storage = make({"host_path": str(tmp_path), "storage_path": str(tmp_path / "a")})
    assert storage.locate("first") == str(tmp_path / "a" / "first")


@pytest.mark.parametrize("storage_path", ["..", "../x", "a/../../x", "a/..", "/", "/etc", "{host}x", "{host}/../x"])
def test_a_storage_path_cannot_leave_host_path(tmp_path: Path, storage_path: str) -> None:
    value = storage_path.format(host=tmp_path)
    with pytest.raises(PluginError) as error:
        make({"host_path": str(tmp_path), "storage_path": value})
    assert f"must lie within host_path ({tmp_path}), which {value!r} does not" in str(error.value)


def test_a_symbolic_link_cannot_lead_out_of_host_path(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "host").mkdir()
    (tmp_path / "host" / "link").symlink_to(tmp_path / "outside")
    storage = make({"host_path": str(tmp_path / "host"), "storage_path": "link/checkpoints"})
    with pytest.raises(CheckpointError, match="leads out of"):
        storage.begin("first")
    assert list((tmp_path / "outside").iterdir()) == []


def test_host_path_itself_may_be_a_symbolic_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "mounted").symlink_to(tmp_path / "disk")
    storage = make({"host_path": str(tmp_path / "mounted"), "storage_path": "a"})
    write(storage, "first")
    assert storage.ids() == ["first"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs 'host_path', the absolute path of the shared folder"),
        ({"storage_path": "x"}, "needs 'host_path'"),
        ({"host_path": "/x", "storage_pth": "y"}, "Did you mean 'storage_path'? It takes: host_path, storage_path"),
        ({"host_path": "x"}, "'host_path' of the checkpoint storage 'shared_fs' must be an absolute path"),
        ({"host_path": "/x", "storage_path": ""}, "must be text that is not empty"),
        ({"host_path": "/x", "storage_path": "a\0"}, "must be text that is not empty"),
        ({"host_path": "/x", "storage_path": ["a"]}, "not ['a']"),
    ],
)
def test_options_it_cannot_take_are_refused(options: Mapping[str, Any], message: str) -> None:
    with pytest.raises(PluginError) as error:
        make(options)
    assert message in str(error.value)
