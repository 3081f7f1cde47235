"""`download`: where to, and how far it is."""

from __future__ import annotations

from pathlib import Path

from mnist_trials.cli.download import DownloadProgress

MB = 10**6


def test_a_large_one_tells_each_tenth_once() -> None:
    lines: list[str] = []
    progress = DownloadProgress(lines.append)
    for done in range(0, 101 * MB, MB):
        progress(done, 100 * MB)
    assert [line.strip() for line in lines] == [f"{tenth * 10} % of 100 MB" for tenth in range(1, 11)]


def test_a_small_one_tells_nothing() -> None:
    lines: list[str] = []
    DownloadProgress(lines.append)(MB, MB)
    DownloadProgress(lines.append)(0, 0)
    assert lines == []


def test_a_folder_with_something_in_it_is_left_alone(cli, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("keep")
    outcome = cli("download", "1234", "--to", tmp_path)
    assert outcome.status == 2
    assert f"{tmp_path} is not empty; --to takes a folder that is empty or not there" in outcome.err
    assert (tmp_path / "mine").read_text() == "keep"


def test_one_that_is_not_there_is_told(cli, tmp_path: Path) -> None:
    outcome = cli("download", "1234", "--to", tmp_path / "copy")
    assert outcome.status == 2
    assert "has the id '1234' or an id that begins so" in outcome.err
    assert not (tmp_path / "copy").exists()
