"""`init`: a project to start from."""

from __future__ import annotations

from pathlib import Path

FILES = {"trial.py", "train.py", "const.yaml", "distributed.yaml", "dist_random.yaml", "adaptive.yaml"}


def test_init_writes_the_project_and_says_what_to_type_next(cli, tmp_path: Path) -> None:
    outcome = cli("init", tmp_path / "new" / "project")
    assert outcome.status == 0
    assert {path.name for path in (tmp_path / "new" / "project").iterdir()} == FILES
    assert f"  cd {tmp_path}/new/project" in outcome.out
    assert "  mnist-trials create const.yaml" in outcome.out
    assert "  python train.py" in outcome.out
    assert "  mnist-trials preview-search adaptive.yaml" in outcome.out


def test_init_as_json_names_the_files(cli, tmp_path: Path) -> None:
    document = cli("init", tmp_path / "p", "--json").document
    assert document["directory"] == str(tmp_path / "p")
    assert set(document["files"]) == FILES


def test_init_never_overwrites_and_names_every_file_in_the_way(cli, tmp_path: Path) -> None:
    (tmp_path / "trial.py").write_text("mine")
    (tmp_path / "const.yaml").write_text("mine too")
    outcome = cli("init", tmp_path)
    assert outcome.status == 2
    assert "has const.yaml, trial.py already; nothing was written" in outcome.err
    assert {path.name for path in tmp_path.iterdir()} == {"trial.py", "const.yaml"}
    assert (tmp_path / "trial.py").read_text() == "mine"


def test_init_where_no_folder_can_be_says_why(cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    outcome = cli("init", tmp_path / "file" / "project")
    assert outcome.status == 2
    assert "Not a directory" in outcome.err


def test_the_next_commands_keep_the_home_that_was_given(cli, tmp_path: Path) -> None:
    outcome = cli("--home", tmp_path / "h", "init", tmp_path / "p")
    assert f"mnist-trials --home {tmp_path}/h create const.yaml" in outcome.out
