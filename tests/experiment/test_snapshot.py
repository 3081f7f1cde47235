from __future__ import annotations

import os
from pathlib import Path

import pytest

from mnist_trials.errors import UsageError
from mnist_trials.experiment import snapshot
from mnist_trials.experiment.snapshot import take_snapshot


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    folder.mkdir()
    (folder / "trial.py").write_text("code")
    return folder


def taken(context: Path, home: Path | None = None) -> Path:
    target = context.parent / "taken"
    take_snapshot(context, target, without=home or context.parent / "home")
    return target


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_code_is_copied_with_its_folders_and_modes(context: Path) -> None:
    (context / "package").mkdir()
    (context / "package" / "run.sh").write_text("x")
    (context / "package" / "run.sh").chmod(0o755)
    target = taken(context)
    assert names(target) == ["package", "package/run.sh", "trial.py"]
    assert (target / "package" / "run.sh").stat().st_mode & 0o777 == 0o755
    assert (target / "trial.py").read_text() == "code"


@pytest.mark.parametrize(
    "folder", [".git", "__pycache__", ".venv", "x.egg-info", ".ipynb_checkpoints", "node_modules", "deep/__pycache__"]
)
def test_what_is_no_code_is_left_out(context: Path, folder: str) -> None:
    (context / folder).mkdir(parents=True)
    (context / folder / "file").write_text("x")
    assert "file" not in "".join(names(taken(context)))


def test_virtual_environments_checkpoints_and_compiled_files_are_left_out_by_what_they_are(context: Path) -> None:
    for name, files in (("env", ["pyvenv.cfg"]), ("4f", ["manifest.json", "model.safetensors"]), ("kept", ["a.json"])):
        (context / name).mkdir()
        for file in files:
            (context / name / file).write_text("x")
    (context / "old.pyc").write_text("x")
    assert names(taken(context)) == ["kept", "kept/a.json", "trial.py"]


def test_a_home_within_the_context_is_left_out(context: Path) -> None:
    home = context / "my-home"
    home.mkdir()
    (home / "store.sqlite").write_text("x")
    assert names(taken(context, home)) == ["trial.py"]


def test_links_within_stay_links_and_links_out_are_copied_or_kept_pointing(context: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "data").mkdir(parents=True)
    (outside / "shared.py").write_text("shared")
    (context / "sub").mkdir()
    (context / "sub" / "again.py").symlink_to(context / "trial.py")
    (context / "shared.py").symlink_to(outside / "shared.py")
    (context / "data").symlink_to(outside / "data")
    (context / "nowhere").symlink_to("gone")
    (context / "circle").symlink_to("circle")
    (context / "up").symlink_to(context)
    target = taken(context)
    assert (target / "sub" / "again.py").resolve() == (target / "trial.py").resolve()
    assert not (target / "shared.py").is_symlink()
    assert (target / "shared.py").read_text() == "shared"
    assert (target / "data").readlink() == outside / "data"
    assert (target / "up").resolve() == target.resolve()
    assert not {"nowhere", "circle"} & set(names(target))


def test_what_is_neither_file_nor_folder_is_left_out(context: Path) -> None:
    os.mkfifo(context / "pipe")
    assert names(taken(context)) == ["trial.py"]


def test_too_much_is_refused_with_the_biggest_files_and_what_to_do(
    context: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "MAX_BYTES", 2_000_000)
    (context / "big.bin").write_bytes(b"x" * 1_500_000)
    (context / "bigger.bin").write_bytes(b"x" * 2_500_000)
    with pytest.raises(UsageError) as told:
        taken(context)
    assert "holds 4 MB of files (at most 2 MB are copied)" in str(told.value)
    assert "bigger.bin (2.5 MB), big.bin (1.5 MB)" in str(told.value)
    assert "an empty one will do where the entrypoint is in an installed package" in str(told.value)
    assert not (context.parent / "taken").exists()


def test_too_many_files_are_refused(context: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "MAX_FILES", 3)
    for number in range(4):
        (context / f"{number}.py").touch()
    with pytest.raises(UsageError, match="more than 3 files"):
        taken(context)
