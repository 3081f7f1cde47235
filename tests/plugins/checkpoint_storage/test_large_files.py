"""A file larger than what the storages take at once; `make test-slow` runs this."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from mnist_trials.plugin import MANIFEST, CheckpointStorage, get_plugins
from tests.plugins.checkpoint_storage.moto_server import KEY, SECRET, MotoServer

SIZE = 130 * 2**20  # s3fs takes up to 100 MiB at once unless told otherwise, as our s3 does


def s3(server: MotoServer, bucket: str) -> tuple[str, dict[str, object]]:
    return "s3", dict(server.options(bucket))


def fsspec(server: MotoServer, bucket: str) -> tuple[str, dict[str, object]]:
    settings = {"endpoint_url": server.url, "key": KEY, "secret": SECRET}
    return "fsspec", {"url": f"s3://{bucket}/a", "options": settings}


def memory(_server: MotoServer, _bucket: str) -> tuple[str, dict[str, object]]:
    return "memory", {}


@pytest.mark.slow
@pytest.mark.parametrize("kind", [s3, fsspec, memory])
def test_a_file_beyond_the_multipart_threshold_comes_back(
    s3_server: MotoServer,
    bucket: str,
    tmp_path: Path,
    kind: Callable[[MotoServer, str], tuple[str, dict[str, object]]],
) -> None:
    name, options = kind(s3_server, bucket)
    storage: CheckpointStorage = get_plugins().find("checkpoint_storage", name).factory(options, tmp_path)
    folder = storage.begin("large")
    block = hashlib.sha512(b"seed").digest() * 16384  # 1 MiB
    with (folder / "model.safetensors").open("wb") as file:
        for number in range(SIZE // len(block)):
            file.write(number.to_bytes(8, "big") + block[8:])
        file.write(b"the end")
    with (folder / "model.safetensors").open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    (folder / MANIFEST).write_text("{}")
    storage.commit("large")
    with storage.fetch("large") as fetched, (fetched / "model.safetensors").open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == digest
    storage.delete("large")
    assert storage.ids() == []
