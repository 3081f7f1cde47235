"""The storage `s3` against a process that speaks like S3."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
from typing_extensions import override

from mnist_trials.errors import CheckpointError, PluginError
from mnist_trials.plugin import MANIFEST, CheckpointStorage, get_plugins
from mnist_trials.testing import CheckpointStorageSuite
from mnist_trials.testing.storage_process import FILES, write, write_files
from mnist_trials_plugins.checkpoint_storage._retry import Retry
from mnist_trials_plugins.checkpoint_storage.s3 import create
from tests.plugins.checkpoint_storage.moto_server import KEY, SECRET, MotoServer

DEADLINE = 120.0  # seconds


def make(options: Mapping[str, Any], root: Path) -> CheckpointStorage:
    storage: CheckpointStorage = get_plugins().find("checkpoint_storage", "s3").factory(options, root)
    return storage


def content(storage: CheckpointStorage, checkpoint_id: str) -> dict[str, bytes]:
    with storage.fetch(checkpoint_id) as folder:
        return {path.name: path.read_bytes() for path in folder.iterdir()}


class TestS3(CheckpointStorageSuite):
    plugin = "s3"

    @pytest.fixture(autouse=True)
    def _server(self, s3_server: MotoServer, bucket: str) -> None:
        self.given = s3_server.options(bucket, prefix="mnist/checkpoints")

    @override
    def options(self, root: Path) -> Mapping[str, Any]:
        return self.given

    @pytest.mark.slow  # half a minute; the one that kills stands for it
    @pytest.mark.parametrize("work", ["write", "delete"])
    @override
    def test_failing_at_any_operation_a_checkpoint_is_whole_or_absent(
        self, storage: CheckpointStorage, tmp_path: Path, work: Literal["write", "delete"]
    ) -> None:
        super().test_failing_at_any_operation_a_checkpoint_is_whole_or_absent(storage, tmp_path, work)

    @pytest.mark.parametrize("work", [pytest.param("write", marks=pytest.mark.slow), "delete"])
    @override
    def test_killed_at_any_operation_a_checkpoint_is_whole_or_absent(
        self, storage: CheckpointStorage, tmp_path: Path, work: Literal["write", "delete"]
    ) -> None:
        super().test_killed_at_any_operation_a_checkpoint_is_whole_or_absent(storage, tmp_path, work)

    @pytest.mark.slow
    @override
    def test_processes_can_write_side_by_side(self, storage: CheckpointStorage, tmp_path: Path) -> None:
        super().test_processes_can_write_side_by_side(storage, tmp_path)

    @pytest.mark.slow
    @override
    def test_all_of_many_are_listed(self, storage: CheckpointStorage) -> None:
        super().test_all_of_many_are_listed(storage)


def test_without_a_prefix_checkpoints_lie_in_the_bucket_itself(s3_server: MotoServer, bucket: str, tmp_path: Path):
    storage = make(s3_server.options(bucket), tmp_path)
    write(storage, "first")
    assert storage.locate("first") == f"s3://{bucket}/first"
    assert s3_server.connect().exists(f"{bucket}/first/{MANIFEST}")
    assert storage.ids() == ["first"]
    assert not storage.local


def test_storages_of_several_prefixes_do_not_see_each_other(s3_server: MotoServer, bucket: str, tmp_path: Path):
    inner = make(s3_server.options(bucket, prefix="a"), tmp_path)
    beside = make(s3_server.options(bucket, prefix="ab/"), tmp_path)
    outer = make(s3_server.options(bucket), tmp_path)
    write(inner, "first")
    write(beside, "second")
    assert (inner.ids(), beside.ids(), outer.ids()) == (["first"], ["second"], [])
    assert beside.locate("second") == f"s3://{bucket}/ab/second"


def test_nothing_is_left_on_this_machine(s3_server: MotoServer, bucket: str, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "temporary").mkdir()
    storage = make(s3_server.options(bucket), tmp_path / "root")
    write(storage, "first")
    with storage.fetch("first") as folder:
        assert folder.is_relative_to(tmp_path / "temporary")
        assert folder.name == "first"
    assert list((tmp_path / "root").iterdir()) == []
    assert list((tmp_path / "temporary").iterdir()) == []


def test_more_are_listed_than_one_answer_holds(s3_server: MotoServer, bucket: str, tmp_path: Path):
    names = [f"c-{number:04}" for number in range(1100)]
    s3_server.connect().pipe({f"{bucket}/p/{name}/{MANIFEST}": b"{}" for name in names})
    assert make(s3_server.options(bucket, prefix="p"), tmp_path).ids() == names


def test_what_is_no_checkpoint_is_not_listed(s3_server: MotoServer, bucket: str, tmp_path: Path):
    storage = make(s3_server.options(bucket, prefix="p"), tmp_path)
    write(storage, "good")
    names = ("half/model.safetensors", f"not an id/{MANIFEST}", f"deep/er/{MANIFEST}", MANIFEST, "file", "folder/")
    s3_server.connect().pipe({f"{bucket}/p/{name}": b"x" for name in names})
    assert storage.ids() == ["good"]
    with pytest.raises(CheckpointError, match=r"There is no checkpoint 'half' in .*, which holds 1\."):
        content(storage, "half")


def test_a_name_that_leads_out_of_the_folder_is_not_fetched(s3_server: MotoServer, bucket: str, tmp_path: Path):
    storage = make(s3_server.options(bucket, prefix="p"), tmp_path)
    write(storage, "evil")
    client = s3_server.connect()
    client.call_s3("put_object", Bucket=bucket, Key="p/evil/../../escaped", Body=b"x")
    with pytest.raises(CheckpointError, match=r"holds '\.\./\.\./escaped', a name that leads out of its folder"):
        content(storage, "evil")


def test_a_large_file_goes_up_in_parts_and_comes_back(s3_server: MotoServer, bucket: str, tmp_path: Path):
    storage = make(s3_server.options(bucket), tmp_path)
    large = bytes(range(256)) * (4096 * 33)  # 33 MiB
    folder = storage.begin("large")
    (folder / "model.safetensors").write_bytes(large)
    (folder / MANIFEST).write_bytes(b"{}")
    storage.commit("large")
    assert content(storage, "large") == {"model.safetensors": large, MANIFEST: b"{}"}
    info = s3_server.connect().info(f"{bucket}/large/model.safetensors")
    assert info["ETag"].strip('"').endswith("-3")  # three parts


@pytest.mark.parametrize("again", ["begin", "delete"])
def test_a_writer_killed_in_a_large_file_leaves_no_checkpoint_and_its_parts_are_thrown_away(
    s3_server: MotoServer, bucket: str, tmp_path: Path, again: str
):
    options = s3_server.options(bucket, prefix="p")
    script = Path(__file__).with_name("killed_upload.py")
    command = [sys.executable, str(script), json.dumps(options), str(tmp_path), "first"]
    assert subprocess.run(command, timeout=DEADLINE, check=False).returncode == -signal.SIGKILL
    client = s3_server.connect()
    client.call_s3("create_multipart_upload", Bucket=bucket, Key="p/first-2/model.safetensors")  # somebody else's
    assert client.find(bucket) == [f"{bucket}/p/first/empty", f"{bucket}/p/first/model.safetensors"]
    assert len(client.list_multipart_uploads(bucket)) == 2

    storage = make(options, tmp_path)
    assert storage.ids() == []
    with pytest.raises(CheckpointError, match="There is no checkpoint 'first'"):
        content(storage, "first")
    if again == "begin":
        write_files(storage.begin("first"))
    else:
        storage.delete("first")
        assert list(tmp_path.iterdir()) == []
    assert client.find(bucket) == []
    assert [upload["Key"] for upload in client.list_multipart_uploads(bucket)] == ["p/first-2/model.safetensors"]
    if again == "begin":
        storage.commit("first")
        assert content(storage, "first") == FILES


@pytest.mark.parametrize("prefix", ["p", None])
def test_uploads_that_a_writer_left_are_found_however_many_there_are(
    prefix: str | None, s3_server: MotoServer, bucket: str, tmp_path: Path
):
    client = s3_server.connect()
    place = f"{prefix}/" if prefix else ""
    for number in range(3):
        client.call_s3("create_multipart_upload", Bucket=bucket, Key=f"{place}n-{number}/model.safetensors")
    client.pipe_file(f"{bucket}/{place}half/model.safetensors", b"x")
    storage = make(s3_server.options(bucket, **({"prefix": prefix} if prefix else {})), tmp_path)
    assert storage.unfinished() == ["half", "n-0", "n-1", "n-2"]
    for name in storage.unfinished():
        storage.delete(name)
    assert storage.unfinished() == []
    assert client.list_multipart_uploads(bucket) == []


def test_a_bucket_that_is_not_there_is_told_at_once(s3_server: MotoServer, tmp_path: Path):
    storage = create(s3_server.options("no-such-bucket"), tmp_path, Retry(wait=pytest.fail))
    for work in (lambda: storage.begin("first"), storage.ids, lambda: content(storage, "first")):
        with pytest.raises(CheckpointError) as error:
            work()
        assert "it was not found: The specified bucket does not exist" in str(error.value)
        assert f"Check that the bucket 'no-such-bucket' exists at {s3_server.url}" in str(error.value)


def test_credentials_that_are_refused_are_told_at_once_and_not_shown(
    s3_server: MotoServer, bucket: str, tmp_path: Path
):
    storage = create(s3_server.options(bucket), tmp_path, Retry(wait=pytest.fail))
    write(storage, "first")
    write_files(storage.begin("second"))
    s3_server.check_credentials_after(0)
    try:
        for work in (
            lambda: storage.begin("third"),
            lambda: storage.commit("second"),
            lambda: storage.delete("first"),
            lambda: content(storage, "first"),
            storage.ids,
        ):
            with pytest.raises(CheckpointError) as error:
                work()
            text = str(error.value)
            assert f"s3://{bucket}: access was denied: " in text
            assert "allow s3:ListBucket on it and s3:GetObject, s3:PutObject and s3:DeleteObject in it." in text
            assert SECRET not in text
            assert KEY not in text
    finally:
        s3_server.check_credentials_after(2**31)
    assert storage.ids() == ["first"]
    storage.commit("second")
    assert storage.ids() == ["first", "second"]


def test_without_any_credentials_the_places_to_put_them_are_named(
    s3_server: MotoServer, bucket: str, tmp_path: Path, monkeypatch
):
    for name, value in {
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        "AWS_CONFIG_FILE": "/nonexistent",
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    storage = create({"bucket": bucket, "endpoint_url": s3_server.url}, tmp_path, Retry(wait=pytest.fail))
    with pytest.raises(CheckpointError) as error:
        storage.ids()
    assert "access was denied: Unable to locate credentials" in str(error.value)
    assert "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, ~/.aws, or the machine's role" in str(error.value)


def test_credentials_of_the_environment_are_used(s3_server: MotoServer, bucket: str, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    storage = make({"bucket": bucket, "endpoint_url": s3_server.url}, tmp_path)
    write(storage, "first")
    assert storage.ids() == ["first"]


def test_a_commit_goes_through_when_the_endpoint_is_gone_and_comes_back(tmp_path: Path):
    waits: queue.Queue[float] = queue.Queue()
    back = threading.Event()

    def wait(seconds: float) -> None:
        waits.put(seconds)
        if not back.wait(DEADLINE):
            raise TimeoutError("the endpoint did not come back")

    server = MotoServer()
    storage = create(server.options("moved"), tmp_path, Retry(wait=wait, seconds=2 * DEADLINE))
    server.make_bucket("moved")
    write_files(storage.begin("first"))
    server.stop()
    outcome: queue.Queue[BaseException | None] = queue.Queue()
    writer = threading.Thread(target=lambda: outcome.put(_raised(lambda: storage.commit("first"))))
    writer.start()
    try:
        assert waits.get(timeout=DEADLINE) > 0  # it has seen that nobody answers
        server = MotoServer(server.port)
        server.make_bucket("moved")
    finally:
        back.set()
        writer.join(DEADLINE)
    assert outcome.get(timeout=DEADLINE) is None
    assert content(storage, "first") == FILES
    server.stop()


def test_an_endpoint_that_stays_away_is_told_after_the_bound(tmp_path: Path):
    server = MotoServer()
    server.make_bucket("bucket")
    clock = _StoppedClock()
    storage = create(server.options("bucket"), tmp_path, Retry(wait=clock.wait, clock=clock))
    write_files(storage.begin("first"))
    server.stop()
    with pytest.raises(CheckpointError) as error:
        storage.commit("first")
    assert "could not be stored in s3://bucket: it did not answer as it should, tried" in str(error.value)
    assert f'Could not connect to the endpoint URL: "{server.url}/' in str(error.value)
    assert clock.now <= 60.0
    assert (tmp_path / ".tmp-first" / MANIFEST).exists()  # and can be committed later


class _StoppedClock:
    """Goes on only while somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


def _raised(work) -> BaseException | None:
    try:
        work()
    except BaseException as error:
        return error
    return None


BUCKET = {"bucket": "my-bucket"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "The checkpoint storage 's3' needs 'bucket', the name of the bucket."),
        ({"buckt": "b"}, "does not take 'buckt'. Did you mean 'bucket'? It takes: access_key, bucket, endpoint_url"),
        ({"bucket": ""}, "must be text that is not empty"),
        ({"bucket": "a/b"}, "a folder within it goes into 'prefix'"),
        ({"bucket": "s3://a"}, "must be the plain name of a bucket"),
        ({"bucket": "../a"}, "must be the plain name of a bucket"),
        ({**BUCKET, "access_key": KEY}, "'access_key' of the checkpoint storage 's3' needs 'secret_key' beside it"),
        ({**BUCKET, "secret_key": SECRET}, "'secret_key' of the checkpoint storage 's3' needs 'access_key' beside it"),
        ({**BUCKET, "secret_key": 31415926, "access_key": KEY}, "put it in quotes if it is a number"),
        ({**BUCKET, "endpoint_url": "minio:9000"}, "must be a URL such as https://minio.example.org:9000, not 'minio"),
        ({**BUCKET, "endpoint_url": f"http://{KEY}:{SECRET}@h"}, "must hold no credentials"),
    ],
)
def test_options_it_cannot_take_are_refused(options: Mapping[str, Any], message: str, tmp_path: Path):
    with pytest.raises(PluginError) as error:
        make(options, tmp_path)
    assert message in str(error.value)
    assert not [secret for secret in (KEY, SECRET, "31415926") if secret in str(error.value)]


def test_making_one_touches_nothing(tmp_path: Path):
    make({"bucket": "bucket", "endpoint_url": "http://127.0.0.1:1"}, tmp_path / "root")
    assert list(tmp_path.iterdir()) == []
