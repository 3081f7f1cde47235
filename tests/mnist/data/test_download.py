"""The download, from a server of our own on this machine."""

from __future__ import annotations

import gzip
import hashlib
import socket
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from mnist_trials.mnist.data.download import download
from mnist_trials.mnist.data.folder import NAMES, Folder


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        del arguments


def packed(name: str) -> bytes:
    shape = (4, 28, 28) if "images" in name else (4,)
    header = bytes([0, 0, 8, len(shape)]) + b"".join(size.to_bytes(4, "big") for size in shape)
    return gzip.compress(header + torch.ones(shape, dtype=torch.uint8).numpy().tobytes())


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that torchvision takes for a mirror of MNIST."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    resources = []
    for name in NAMES:
        content = packed(name)
        (folder / f"{name}.gz").write_bytes(content)
        resources.append((f"{name}.gz", hashlib.md5(content).hexdigest()))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setattr("torchvision.datasets.MNIST.mirrors", [f"http://127.0.0.1:{server.server_port}/"])
    monkeypatch.setattr("torchvision.datasets.MNIST.resources", resources)
    yield folder
    server.shutdown()
    thread.join(timeout=10)
    server.server_close()


def test_what_a_mirror_has_is_fetched_whole(tmp_path: Path, mirror: Path) -> None:
    folder = download(tmp_path / "data")
    assert isinstance(folder, Folder)
    assert folder.path == tmp_path / "data" / "MNIST" / "raw"
    train, test = folder.read()
    assert (len(train), len(test)) == (4, 4)
    assert socket.getdefaulttimeout() is None


def test_what_was_fetched_is_not_fetched_again(tmp_path: Path, mirror: Path) -> None:
    download(tmp_path / "data")
    (mirror / f"{NAMES[3]}.gz").unlink()
    assert isinstance(download(tmp_path / "data"), Folder)


def test_several_processes_at_once_fetch_it_once(tmp_path: Path, mirror: Path) -> None:
    answers: list[object] = []
    threads = [threading.Thread(target=lambda: answers.append(download(tmp_path / "data"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert [type(answer) for answer in answers] == [Folder] * 3


def test_content_that_does_not_match_its_md5_is_not_kept(tmp_path: Path, mirror: Path) -> None:
    (mirror / f"{NAMES[3]}.gz").write_bytes(gzip.compress(b"something else"))
    reason = download(tmp_path / "data")
    assert isinstance(reason, str)
    assert "failed" in reason
    assert not (tmp_path / "data" / "MNIST").exists()
    assert not (tmp_path / "data" / ".partial").exists()


def test_a_root_that_cannot_be_written_is_a_reason_and_no_error(tmp_path: Path, mirror: Path) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    reason = download(tmp_path / "data")
    assert isinstance(reason, str)
    assert "failed" in reason


def test_a_server_that_takes_the_call_and_never_answers_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr("torchvision.datasets.MNIST.mirrors", [f"http://127.0.0.1:{silent.getsockname()[1]}/"])
        reason = download(tmp_path / "data", patience=0.2)
    assert isinstance(reason, str)
    assert "did not answer in time" in reason or "timed out" in reason


def test_a_machine_without_network_is_told_of_every_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchvision.datasets.MNIST.mirrors", ["http://127.0.0.1:9/", "http://127.0.0.1:7/"])
    reason = download(tmp_path / "data")
    assert isinstance(reason, str)
    assert reason.count("refused") == 2
