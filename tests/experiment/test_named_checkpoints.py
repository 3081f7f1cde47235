"""A checkpoint by any of its names; nobody deletes it while it is read, or while something starts from it."""

from __future__ import annotations

import importlib
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from mnist_trials.errors import CheckpointDamaged, CheckpointError, ConfigError, UsageError
from mnist_trials.experiment import api
from mnist_trials.experiment.bringing import download
from mnist_trials.experiment.in_use import is_read
from mnist_trials.experiment.named_checkpoints import fetched, find
from mnist_trials.experiment.warm_start import Source
from mnist_trials.store import open_store
from mnist_trials.store.rows import CheckpointRow

REAL = Path(__file__).parents[1] / "checkpoint" / "fixtures" / "format-1"


@pytest.fixture
def row(lab: Any) -> CheckpointRow:
    """The last checkpoint of experiment 1; in its folder lies a real one."""
    assert lab.trial()["state"] == "COMPLETED"
    with lab.reader() as reader:
        last: CheckpointRow = reader.checkpoints(1)[-1]
    fill(Path(last.location))
    return last


def fill(folder: Path) -> None:
    shutil.rmtree(folder)
    shutil.copytree(REAL, folder)


def unheard(_done: int, _total: int) -> None:
    pass


@pytest.mark.parametrize("by", ["id", "beginning", "path", "relative", "link"])
def test_by_whichever_name_it_is_held_while_it_is_read(lab: Any, row: CheckpointRow, by: str, tmp_path: Path) -> None:
    (tmp_path / row.uuid).symlink_to(row.location)
    names = {
        "id": row.uuid,
        "beginning": row.uuid[:9],
        "path": row.location,
        "relative": os.path.relpath(row.location, tmp_path),
        "link": str(tmp_path / row.uuid),
    }
    named = find(lab.home, names[by], tmp_path)
    assert named.uuid == row.uuid
    files = lab.files(1)
    with fetched(lab.home, named) as (folder, _):
        assert folder.samefile(row.location)
        assert is_read(files, row.uuid)
    assert not is_read(files, row.uuid)


def test_one_that_was_given_up_is_refused_by_its_path_too(lab: Any, row: CheckpointRow) -> None:
    with open_store(lab.home) as store, store.transaction() as transaction:
        transaction.give_up_checkpoint(1, 1, row.uuid)
    with (
        pytest.raises(
            UsageError, match=r"of trial 1\.1 was deleted by the checkpoint policy; `mnist-trials checkpoints 1`"
        ),
        fetched(lab.home, find(lab.home, row.location)),
    ):
        pass


def test_a_copy_is_another_checkpoint_which_nobody_need_hold(lab: Any, row: CheckpointRow, tmp_path: Path) -> None:
    copy = tmp_path / row.uuid
    shutil.copytree(row.location, copy)
    assert find(lab.home, str(copy)).row is None


def test_one_of_a_script_is_found_by_its_id(lab: Any, tmp_path: Path) -> None:
    place = lab.home / "scripts" / "train" / "checkpoints" / "12345678-aaaa"
    shutil.copytree(REAL, place)
    assert find(lab.home, "12345678").location == str(place)
    with pytest.raises(UsageError, match=r"No checkpoint in .* has the id 'ffff'"):
        find(lab.home, "ffff")


def test_a_download_is_there_whole_or_not_at_all(lab: Any, row: CheckpointRow, tmp_path: Path) -> None:
    heard: list[tuple[int, int]] = []
    target = tmp_path / "copy"
    target.mkdir()  # an empty folder will do
    download(lab.home, find(lab.home, row.uuid), target, lambda done, total: heard.append((done, total)))
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {
        path.name: path.read_bytes() for path in REAL.iterdir()
    }
    size = sum(path.stat().st_size for path in REAL.iterdir())
    assert heard[-1] == (size, size)
    weights = Path(row.location, "model.safetensors")
    content = weights.read_bytes()
    weights.chmod(0o644)
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CheckpointDamaged, match=r"model\.safetensors was changed"):
        download(lab.home, find(lab.home, row.uuid), tmp_path / "other", unheard)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["context", "copy", "home"]


def test_what_a_killed_download_left_is_swept_by_the_next_and_nothing_else_is(
    lab: Any, row: CheckpointRow, tmp_path: Path
) -> None:
    (tmp_path / ".mnist-trials-download-dead").mkdir()
    (tmp_path / ".new-mine").mkdir()
    download(lab.home, find(lab.home, row.uuid), tmp_path / "copy", unheard)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".new-mine", "context", "copy", "home"]


def test_a_folder_of_anything_is_not_copied(lab: Any, tmp_path: Path) -> None:
    (tmp_path / "anything").mkdir()
    (tmp_path / "anything" / "mine.txt").write_text("x")
    with pytest.raises(CheckpointError, match=r"manifest\.json is missing"):
        download(lab.home, find(lab.home, str(tmp_path / "anything")), tmp_path / "copy", unheard)
    with pytest.raises(CheckpointError, match="no such folder"):
        download(lab.home, find(lab.home, str(tmp_path / "nothing")), tmp_path / "copy", unheard)


def test_a_relative_path_begins_at_the_config_in_a_fork_too(lab: Any) -> None:
    shutil.copytree(REAL, lab.context / "begin")
    config = lab.context / "again.yaml"
    config.write_text(
        "name: again\nentrypoint: fake_trial:Fake\nlauncher: inline\nbackend: cpu\n"
        "searcher: {name: single, metric: loss, max_length: {batches: 50}}\nresume: {from: begin}\n"
    )
    first = api.submit(config, home=lab.home)
    fork = api.submit_fork(first, home=lab.home)
    with lab.reader() as reader:
        sources = [Source.of(reader.experiment(number).options) for number in (first, fork)]
    assert sources[0] is not None
    assert sources[0].location == str(lab.context / "begin")
    assert sources[1] == sources[0]


@pytest.fixture
def leaving(lab: Any) -> dict[str, Any]:
    """A config whose workers may be on other machines, and whose checkpoints lie on a file system that all see."""
    importlib.import_module("elsewhere").install()
    document: dict[str, Any] = lab.config(length=60, launcher={"name": "elsewhere", "hosts": {"a": 1, "b": 1}})
    return document | {"checkpoint_storage": {"type": "shared_fs", "host_path": str(lab.home.parent / "shared")}}


def test_workers_on_other_machines_find_it_in_the_storage_of_their_experiment(
    lab: Any, row: CheckpointRow, leaving: dict[str, Any]
) -> None:
    leaving["searcher"]["source_checkpoint_uuid"] = row.uuid
    again = lab.submit(leaving)
    with lab.reader() as reader:
        source = Source.of(reader.experiment(again).options)
    assert source is not None
    assert source.copied == "storage"
    copy = lab.home.parent / "shared" / source.location
    assert (copy / "manifest.json").read_bytes() == (REAL / "manifest.json").read_bytes()
    assert not lab.files(again).source.exists()
    api.delete(1, home=lab.home)  # the original is not needed any more
    api.delete(again, home=lab.home)
    assert not copy.exists()


def test_nothing_of_it_stays_where_the_experiment_was_not_stored(
    lab: Any, row: CheckpointRow, leaving: dict[str, Any]
) -> None:
    weights = Path(row.location, "model.safetensors")
    weights.chmod(0o644)
    weights.write_bytes(b"")
    leaving["searcher"]["source_checkpoint_uuid"] = row.uuid
    with pytest.raises(ConfigError, match=r"searcher\.source_checkpoint_uuid: .*model\.safetensors"):
        lab.submit(leaving)
    assert not (lab.home.parent / "shared").exists()
    assert [path.name for path in (lab.home / "experiments").iterdir()] == ["1"]
