from pathlib import Path

import pytest

from mnist_trials.errors import PluginError
from mnist_trials.plugin import CheckpointStorage, get_plugins
from mnist_trials.testing import CheckpointStorageSuite
from mnist_trials.testing.storage_process import write


def make(root: Path) -> CheckpointStorage:
    storage: CheckpointStorage = get_plugins().find("checkpoint_storage", "memory").factory({}, root)
    return storage


class TestMemory(CheckpointStorageSuite):
    plugin = "memory"
    across_processes = False


def test_storages_of_one_root_hold_the_same_checkpoints_and_others_do_not(tmp_path: Path) -> None:
    write(make(tmp_path / "a"), "first")
    assert make(tmp_path / "a").ids() == ["first"]
    assert make(tmp_path / "ab").ids() == []
    assert make(tmp_path / "a").locate("first") == f"memory://checkpoints{tmp_path}/a/first"
    assert make(tmp_path / "a").local


def test_it_takes_no_options() -> None:
    with pytest.raises(PluginError, match=r"does not take 'url'\. It takes: no options"):
        get_plugins().find("checkpoint_storage", "memory").factory({"url": "x"}, Path("/"))
