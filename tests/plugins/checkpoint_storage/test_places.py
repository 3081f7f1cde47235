"""Whatever a config says of where checkpoints lie, no storage leaves the place it was given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mnist_trials.errors import CheckpointError, PluginError
from mnist_trials.plugin import CheckpointStorage, get_plugins
from mnist_trials.testing.storage_process import write
from mnist_trials_plugins.checkpoint_storage._places import hide, secrets_in
from tests.plugins.checkpoint_storage.moto_server import MotoServer

ESCAPES = (
    *("..", "../up", "a/../../up", "a/..", "a/../b", "./..", "../", "..//up", "a/b/../../../up"),
    *("/", "//", "/absolute", "//absolute", "/../up", "~/../up", "C:\\up", "\\\\host\\up", "..\\up", "a\\..\\..\\up"),
    *("\0", "a\0b", "../\0", "a/\0/..", "\n", "a\n../up", "\r", "\t", "a\x1b[2J", "a\x7f"),
    *("\uff0e\uff0e", "\uff0e\uff0e/up", "\u2024\u2024/up", "\u2025/up", "..\uff0fup", "a\u2215..\u2215up"),
    *("a\u2044b", "\u29f8up", "a\u200b", "\u202e..", "\ufeff..", "\ufe52\ufe52/up", "cafe\u0301", "\ufb01le"),
    *("%2e%2e/up", "..%2fup", "%00", "a?b", "a#b", "*", "a*", "[a]", "{a,b}", "$HOME", "`id`", "a;b", "a|b", "a&b"),
    *("a" * 5000, "a/" * 3000, "../" * 1000, "\u00e9" * 300, "\udcff"),
)
"""What could lead out of a folder, at least in one program, file system or normalisation of Unicode."""

PLAIN = ("a", "a/b/c", "a/", "mnist/v1.2_x-y", "..a", "a..b/c", "caf\u00e9/\u5b9f\u9a13", "run=1/k@v", "~me")


def shown(value: str) -> str:
    return ascii(value[:40])


def storage(name: str, options: dict[str, str], root: Path) -> CheckpointStorage:
    made: CheckpointStorage = get_plugins().find("checkpoint_storage", name).factory(options, root)
    return made


@pytest.mark.parametrize("path", ESCAPES, ids=shown)
def test_a_prefix_that_could_lead_out_of_its_bucket_is_refused(path: str, tmp_path: Path) -> None:
    for name, options in {
        "s3": {"bucket": "bucket", "prefix": path},
        "gcs": {"bucket": "bucket", "prefix": path},
    }.items():
        with pytest.raises(PluginError) as error:
            storage(name, options, tmp_path)
        assert "'prefix'" in str(error.value)
        assert len(str(error.value)) < 800


@pytest.mark.parametrize("path", [path for path in ESCAPES if not path.startswith("/")], ids=shown)
def test_a_url_that_could_lead_out_of_its_folder_is_refused(path: str, tmp_path: Path) -> None:
    with pytest.raises(PluginError):
        storage("fsspec", {"url": f"memory://kept/{path}/x"}, tmp_path)


@pytest.mark.parametrize("path", [*ESCAPES, "a/b", "bucket/../x"], ids=shown)
def test_a_bucket_or_container_is_one_name(path: str, tmp_path: Path) -> None:
    for name, options in {
        "s3": {"bucket": path},
        "gcs": {"bucket": path},
        "azure": {"container": path, "connection_string": "AccountName=a"},
    }.items():
        with pytest.raises(PluginError):
            storage(name, options, tmp_path)


@pytest.mark.parametrize("path", PLAIN, ids=shown)
def test_plain_folders_are_taken_as_they_are(path: str, s3_server: MotoServer, bucket: str, tmp_path: Path) -> None:
    made = storage("s3", dict(s3_server.options(bucket, prefix=path)), tmp_path)
    write(made, "first")
    assert made.ids() == ["first"]
    assert {name.rpartition("/")[0] for name in s3_server.connect().find(bucket)} == {
        f"{bucket}/{path.rstrip('/')}/first"
    }


def on_shared_fs(root: Path, path: str) -> CheckpointStorage:
    return storage("shared_fs", {"host_path": str(root / "host"), "storage_path": path}, root)


def on_a_file_url(root: Path, path: str) -> CheckpointStorage:
    return storage("fsspec", {"url": f"file://{root}/host/{path}"}, root)


@pytest.mark.parametrize("path", [*ESCAPES, *PLAIN], ids=shown)
def test_a_storage_path_is_refused_or_lies_within_host_path(path: str, tmp_path: Path) -> None:
    (tmp_path / "host").mkdir()
    try:
        made = on_shared_fs(tmp_path, path)
        write(made, "first")
    except (PluginError, CheckpointError):
        assert path not in PLAIN
    else:
        assert made.ids() == ["first"]
        assert Path(made.locate("first")).resolve().is_relative_to(tmp_path / "host")
    assert [entry.name for entry in tmp_path.iterdir()] == ["host"]


METHODS: dict[str, Callable[[CheckpointStorage], object]] = {
    "begin": lambda made: made.begin("other"),
    "fetch": lambda made: made.fetch("first").__enter__(),
    "delete": lambda made: made.delete("first"),
    "commit": lambda made: made.commit("first"),
    "ids": lambda made: made.ids(),
}


@pytest.mark.parametrize("method", METHODS)
def test_no_method_follows_a_link_out_of_host_path(tmp_path: Path, method: str) -> None:
    outside = storage("directory", {"container_path": str(tmp_path / "outside")}, tmp_path)
    write(outside, "first")
    (tmp_path / "host").mkdir()
    (tmp_path / "host" / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(CheckpointError, match="leads out of"):
        METHODS[method](on_shared_fs(tmp_path, "link"))
    assert outside.ids() == ["first"]
    assert [entry.name for entry in (tmp_path / "outside").iterdir()] == ["first"]


def test_a_file_url_is_one_path_and_not_a_way_around(tmp_path: Path) -> None:
    assert on_a_file_url(tmp_path, "a/../b").locate("x") == f"{tmp_path}/host/b/x"


def test_secrets_are_found_by_the_names_of_options() -> None:
    options = {
        "key": "k1",
        "secret": "s1",
        "password": 1234,
        "account_key": "k2",
        "client_kwargs": {"aws_secret_access_key": "s2", "region_name": "eu-west-1", "aws_session_token": "t1"},
        "connection_string": "c1",
        "anon": False,
        "host": "example.org",
        "sas_token": "t2",
        "private_key": "p1",
    }
    assert sorted(secrets_in(options)) == ["1234", "c1", "k1", "k2", "p1", "s1", "s2", "t1", "t2"]


def test_the_longest_secret_is_hidden_first() -> None:
    assert hide("abcabc ab x", ("ab", "abcabc", "")) == "*** *** x"
