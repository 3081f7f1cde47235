"""What saves that were cut off left in a storage: an experiment's own is removed, that of others is not."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from mnist_trials.checkpoint.ids import new_checkpoint_id, new_owner
from mnist_trials.experiment import api
from mnist_trials.experiment.strays import OWNER, find_strays
from mnist_trials.experiment.tidying import remove_strays
from mnist_trials.plugin import CheckpointStorage, get_plugins
from mnist_trials.store import open_store

SHOWN = "what saves that were cut off left in the checkpoint storage is removed: "


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A storage that somebody else uses too: a save of theirs is under way, one is done, and one is from before."""
    folder = tmp_path / "shared"
    other = new_owner()
    for name in (f".tmp-{new_checkpoint_id(other)}", new_checkpoint_id(other), f".tmp-{new_checkpoint_id()}"):
        (folder / name).mkdir(parents=True)
        (folder / name / "manifest.json").touch()
    return folder


def config(lab: Any, folder: Path, **given: Any) -> dict[str, Any]:
    made: dict[str, Any] = lab.config(**given)
    made["checkpoint_storage"] |= {"type": "directory", "container_path": str(folder)}
    return made


def folder_storage(folder: Path) -> CheckpointStorage:
    storage: CheckpointStorage = get_plugins().find("checkpoint_storage", "directory").factory({}, folder)
    return storage


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def recorded(lab: Any, experiment_id: int = 1) -> set[str]:
    with lab.reader() as reader:
        return {row.uuid for row in reader.checkpoints(experiment_id)}


def owner_of(lab: Any, experiment_id: int = 1) -> str:
    with lab.reader() as reader:
        owner: str = reader.experiment(experiment_id).options[OWNER]
    return owner


def half_written(folder: Path, owner: str) -> Path:
    path = folder / f".tmp-{new_checkpoint_id(owner)}"
    path.mkdir(parents=True)
    return path


def test_what_a_killed_worker_left_in_a_shared_storage_is_removed_in_the_end_and_told(lab: Any, shared: Path) -> None:
    theirs = names(shared)
    made = config(lab, shared, length=4, launcher="local", do="kill_in_saving", at=3, in_runs=[1])
    assert lab.run(lab.submit(made))["state"] == "COMPLETED"
    assert names(shared) == theirs | recorded(lab)
    assert len(recorded(lab)) == 2
    assert SHOWN in lab.notices()


def test_what_was_left_with_a_killed_controller_is_removed_when_it_is_gone_on(lab: Any, shared: Path) -> None:
    theirs = names(shared)
    experiment_id = lab.submit(config(lab, shared, length=4, launcher="local"))
    first = lab.start(experiment_id, "controller.after_commit:kill:10")
    first.communicate(timeout=60)
    assert first.returncode == -signal.SIGKILL
    half_written(shared, owner_of(lab))
    assert lab.finish(lab.start(experiment_id))["state"] == "COMPLETED"
    assert names(shared) == theirs | recorded(lab)
    with lab.reader() as reader:
        notices = [notice.message for notice in reader.notices(experiment_id)]
    told = [number for number, message in enumerate(notices) if message.startswith(SHOWN)]
    lost = [number for number, message in enumerate(notices) if "was lost with its controller" in message]
    assert len(told) == 1
    assert told < lost, "before anything goes on"


def test_nothing_is_said_where_nothing_was_left(lab: Any, shared: Path) -> None:
    theirs = names(shared)
    assert lab.run(lab.submit(config(lab, shared)))["state"] == "COMPLETED"
    assert names(shared) == theirs | recorded(lab)
    assert "cut off" not in lab.notices()


def test_experiments_that_share_a_storage_leave_each_others_saves_alone(lab: Any, shared: Path) -> None:
    first, second = lab.submit(config(lab, shared)), lab.submit(config(lab, shared))
    under_way = half_written(shared, owner_of(lab, second))
    lab.run(first)
    assert under_way.is_dir()
    lab.run(second)
    assert not under_way.exists()


@pytest.mark.parametrize("how", ["cancel", "delete"])
def test_without_a_controller_it_is_removed_too(lab: Any, shared: Path, how: str) -> None:
    theirs = names(shared)
    experiment_id = lab.submit(
        config(lab, shared, length=6, do="raise", at=5, in_runs=[1], message="Disk quota exceeded")
    )
    assert lab.run(experiment_id)["state"] == "PAUSED"
    half_written(shared, owner_of(lab))
    if how == "cancel":
        api.request(experiment_id, "cancel", home=lab.home)
        assert names(shared) == theirs | recorded(lab)
    else:
        api.delete(experiment_id, home=lab.home)
        assert names(shared) == theirs


def test_a_store_older_than_the_storage_removes_nothing(lab: Any, shared: Path) -> None:
    """As a backup that is older than what retention has deleted since, or a copy of a home that goes on."""
    experiment_id = lab.submit(config(lab, shared))
    lab.run(experiment_id)
    (kept, *_) = recorded(lab)
    (shared / kept).rename(shared / new_checkpoint_id(owner_of(lab)))
    there = names(shared) | {half_written(shared, owner_of(lab)).name}
    with open_store(lab.home) as store, lab.reader() as reader:
        remove_strays(store, reader, experiment_id, folder_storage(shared))
    assert names(shared) == there
    assert f"is not removed: checkpoint {kept}" in lab.notices()


def test_a_storage_that_cannot_be_listed_is_told_and_no_error(lab: Any, tmp_path: Path) -> None:
    experiment_id = lab.submit(config(lab, tmp_path / "kept"))
    lab.run(experiment_id)
    (tmp_path / "file").touch()
    storage = folder_storage(tmp_path / "file")
    with open_store(lab.home) as store, lab.reader() as reader:
        remove_strays(store, reader, experiment_id, storage)
    assert "is not removed: The checkpoints in" in lab.notices()


def test_an_experiment_of_an_earlier_version_owns_nothing(shared: Path) -> None:
    storage = folder_storage(shared)
    assert find_strays(storage, "", set()) == []
    assert len(storage.unfinished()) == 2
