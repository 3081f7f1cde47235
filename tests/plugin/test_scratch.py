"""Folders that leave nothing behind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mnist_trials.plugin.scratch import Scratch

HOLDER = """
import sys
from mnist_trials.plugin.scratch import Scratch
scratch = Scratch()
(scratch.path / "file").touch()
print(scratch.path, flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    return tmp_path


@contextmanager
def holder() -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process that uses a folder, and the folder."""
    command = [sys.executable, "-c", HOLDER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, Path(process.stdout.readline().strip())
        finally:
            process.kill()


def test_a_folder_is_gone_after_its_use(place: Path) -> None:
    scratch = Scratch()
    (scratch.path / "file").touch()
    assert list(place.iterdir()) == [scratch.path]
    scratch.remove()
    assert list(place.iterdir()) == []


def test_what_a_killed_process_left_goes_when_the_next_folder_is_made(place: Path) -> None:
    with holder() as (process, left):
        process.kill()
        process.wait(60)
        assert list(place.iterdir()) == [left]
        scratch = Scratch()
        assert list(place.iterdir()) == [scratch.path]
        scratch.remove()


def test_a_folder_in_use_is_left_alone(place: Path) -> None:
    with holder() as (_, theirs):
        own = Scratch()
        Scratch().remove()
        assert (theirs / "file").exists()
        assert own.path.exists()
        own.remove()
        assert list(place.iterdir()) == [theirs]


def test_what_is_not_such_a_folder_is_left_alone(place: Path) -> None:
    (place / "mnist-trials-other").mkdir()
    (place / "mnist-trials-scratch-file").touch()
    (place / "elsewhere").mkdir()
    (place / "mnist-trials-scratch-link").symlink_to(place / "elsewhere")
    before = sorted(place.iterdir())
    Scratch().remove()
    assert sorted(place.iterdir()) == before


def test_removing_twice_is_no_error(place: Path) -> None:
    scratch = Scratch()
    scratch.remove()
    scratch.remove()
    assert list(place.iterdir()) == []
