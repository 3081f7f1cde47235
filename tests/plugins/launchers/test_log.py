from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnist_trials_plugins.launchers._log import LONGEST_LINE, LineMarker, RotatingLog


def written(path: Path, pieces: list[bytes], max_bytes: int, kept: int) -> list[bytes]:
    """Write `pieces`, opening the log anew for each; the contents of all files, oldest first."""
    for piece in pieces:
        log = RotatingLog(path, max_bytes, kept)
        log.write(piece)
        log.close()
    older = [path.with_name(f"{path.name}.{number}") for number in range(kept, 0, -1)]
    return [file.read_bytes() for file in (*older, path) if file.exists()]


@settings(deadline=None, max_examples=50)
@given(pieces=st.lists(st.binary(max_size=20) | st.just(b"line\n"), max_size=8), max_bytes=st.integers(10, 30))
def test_no_byte_is_lost_or_moved_while_files_are_kept(pieces: list[bytes], max_bytes: int) -> None:
    with TemporaryDirectory() as directory:
        files = written(Path(directory) / "log.txt", pieces, max_bytes, kept=40)
    assert b"".join(files) == b"".join(pieces)


@settings(deadline=None, max_examples=50)
@given(lines=st.lists(st.integers(0, 8), max_size=40), max_bytes=st.integers(10, 30))
def test_a_file_ends_with_the_line_that_fills_it(lines: list[int], max_bytes: int) -> None:
    pieces = [b"x" * length + b"\n" for length in lines]
    with TemporaryDirectory() as directory:
        *full, _ = written(Path(directory) / "log.txt", pieces, max_bytes, kept=100) or [b""]
    assert all(file.endswith(b"\n") and len(file) <= max_bytes + 9 for file in full)


def test_only_so_many_old_files_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    files = written(path, [b"%d\n" % number for number in range(10)], max_bytes=1, kept=2)
    assert files == [b"8\n", b"9\n", b""]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["log.txt", "log.txt.1", "log.txt.2"]


def test_output_without_line_ends_is_rotated_too(tmp_path: Path) -> None:
    files = written(tmp_path / "log.txt", [b"progress\r"] * 100, max_bytes=100, kept=100)
    assert b"".join(files) == b"progress\r" * 100
    assert max(map(len, files)) <= 200 + 9


def test_a_full_disk_is_an_error_and_writing_goes_on_when_there_is_room(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.symlink_to("/dev/full")
    log = RotatingLog(path)
    with pytest.raises(OSError, match="No space left"):
        log.write(b"lost\n")
    log.close()
    path.unlink()
    log.write(b"kept\n")
    log.close()
    assert path.read_bytes() == b"kept\n"


@settings(deadline=None, max_examples=50)
@given(text=st.binary(max_size=60), cuts=st.lists(st.integers(0, 60), max_size=5))
def test_lines_are_marked_however_they_are_cut(text: bytes, cuts: list[int]) -> None:
    marker = LineMarker(b"[rank=1] ")
    ends = [*sorted(cuts), len(text)]
    pieces = [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    marked = b"".join(map(marker.feed, pieces)) + marker.finish()
    whole = text if text.endswith(b"\n") or not text else text + b"\n"
    assert marked == b"".join(b"[rank=1] " + line + b"\n" for line in whole.split(b"\n")[:-1])


def test_an_endless_line_is_broken() -> None:
    marker = LineMarker(b"> ")
    assert marker.feed(b"x" * LONGEST_LINE) == b""
    assert marker.feed(b"x") == b"> " + b"x" * (LONGEST_LINE + 1) + b"\n"
    assert marker.finish() == b""
