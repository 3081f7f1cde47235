from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from mnist_trials.errors import CheckpointError, PluginError
from mnist_trials.plugin import MANIFEST, CheckpointStorage, get_plugins
from mnist_trials.testing import CheckpointStorageSuite
from mnist_trials.testing.storage_process import write
from mnist_trials_plugins.checkpoint_storage._retry import Retry
from mnist_trials_plugins.checkpoint_storage.fsspec import create
from tests.plugins.checkpoint_storage.moto_server import KEY, SECRET, MotoServer


def make(options: Mapping[str, Any], root: Path = Path("/nonexistent")) -> CheckpointStorage:
    storage: CheckpointStorage = get_plugins().find("checkpoint_storage", "fsspec").factory(options, root)
    return storage


class TestFileUrl(CheckpointStorageSuite):
    plugin = "fsspec"

    @override
    def options(self, root: Path) -> Mapping[str, Any]:
        return {"url": f"file://{root}/a/b"}


class TestMemoryUrl(CheckpointStorageSuite):
    plugin = "fsspec"
    across_processes = False

    @override
    def options(self, root: Path) -> Mapping[str, Any]:
        return {"url": f"memory:/{root}"}


def test_a_url_of_an_object_store_is_kept_there(s3_server: MotoServer, bucket: str, tmp_path: Path) -> None:
    settings = {"endpoint_url": s3_server.url, "key": KEY, "secret": SECRET}
    storage = make({"url": f"s3://{bucket}/a/b/", "options": settings}, tmp_path)
    write(storage, "first")
    assert storage.ids() == ["first"]
    assert storage.locate("first") == f"s3://{bucket}/a/b/first"
    assert f"{bucket}/a/b/first/{MANIFEST}" in s3_server.connect().find(bucket)
    assert not storage.local
    storage.delete("first")
    assert s3_server.connect().find(bucket) == []


def test_what_is_local_says_so(tmp_path: Path) -> None:
    assert make({"url": f"file://{tmp_path}"}).local
    assert make({"url": "memory://a"}).local
    assert not make({"url": "s3://bucket/a"}).local
    assert not make({"url": "ftp://host/a"}).local


def test_a_file_url_is_a_folder_as_the_storage_directory_keeps_one(tmp_path: Path) -> None:
    storage = make({"url": f"file://{tmp_path}/x/"})
    write(storage, "first")
    assert storage.locate("first") == f"{tmp_path}/x/first"
    assert (tmp_path / "x" / "first" / MANIFEST).is_file()


def test_a_password_in_the_url_is_never_shown(tmp_path: Path) -> None:
    storage = create({"url": "ftp://me:hunter2@127.0.0.1:1/a"}, tmp_path, Retry(seconds=0.0))
    assert storage.locate("first") == "ftp://me@127.0.0.1:1/a/first"
    with pytest.raises(CheckpointError) as error:
        storage.begin("first")
    assert "could not be begun in ftp://me@127.0.0.1:1/a: it did not answer as it should" in str(error.value)
    assert "hunter2" not in f"{error.value} {error.value!r} {storage!r}"


def test_secrets_of_the_options_are_not_told_by_errors(tmp_path: Path) -> None:
    settings = {"no_such_setting": "visible", "secret": "hunter2", "client_kwargs": {"aws_session_token": "hunter3"}}
    storage = create(
        {"url": "s3://hunter2-hunter3", "options": {**settings, "endpoint_url": "http://hunter2.hunter3.invalid"}},
        tmp_path,
        Retry(seconds=0.0),
    )
    with pytest.raises(CheckpointError) as error:
        storage.ids()
    assert "hunter" not in str(error.value)
    assert "hunter" not in repr(error.value.__cause__)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs 'url', such as sftp://host/mnt/checkpoints"),
        ({"url": ""}, "must be text that is not empty"),
        ({"url": 3}, "must be text that is not empty"),
        ({"url": "/data"}, "must be a URL that leads to a folder"),
        ({"url": "s3://"}, "must be a URL that leads to a folder"),
        ({"url": "file://data"}, "must be an absolute path"),
        ({"url": "file:///x", "options": {"auto_mkdir": True}}, "must be left out for a URL of this machine"),
        ({"url": "simplecache::s3://bucket"}, "must name one file system, not a chain"),
        ({"url": "s3://bucket/a?versionId=1"}, "must be without '?' and '#'"),
        ({"url": "tape://robot/3"}, "fsspec knows no protocol 'tape'. Known: "),
        ({"url": "sftp://host/a"}, 'sftp:// cannot be used here: SFTPFileSystem requires "paramiko" to be installed'),
        ({"url": "memory://a", "options": ["x"]}, "must be a map"),
        ({"url": "memory://a", "option": {}}, "does not take 'option'. Did you mean 'options'?"),
        ({"url": "memory://a/../b"}, "'url' of the checkpoint storage 'fsspec' must be folder names"),
        ({"url": "ftp://me:hunter2@host/../b"}, "without '..'"),
    ],
)
def test_options_it_cannot_take_are_refused(options: Mapping[str, Any], message: str) -> None:
    with pytest.raises(PluginError) as error:
        make(options)
    assert message in str(error.value)
    assert "hunter2" not in str(error.value)
