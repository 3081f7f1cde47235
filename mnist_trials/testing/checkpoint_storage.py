"""The tests that every checkpoint storage must pass."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest

from mnist_trials.errors import CheckpointError, PluginError
from mnist_trials.plugin import MANIFEST, CheckpointStorage
from mnist_trials.testing.storage_process import (
    FAULT_ESCAPED,
    FAULT_REFUSED,
    FAULT_SURVIVED,
    FILES,
    Job,
    open_storage,
    write,
    write_files,
)

NOT_IDS = (
    *("", ".", "..", "../up", "a/b", "/absolute", "a\\b", "..\\up", "a\0b", "\0", "-dash", ".hidden", ".tmp-a"),
    *("a b", " a", "a ", "a\n", "a\t", "~", "~root", "$HOME", "%2e%2e", "a:b", "C:", "*", "a?", "a|b", "a" * 129),
    *(
        "\uff0e\uff0e",
        "\u2024\u2024",
        "a\u2215b",
        "a\u2044b",
        "\uff0fetc",
        "a\u200bb",
        "\u0430bc",
        "caf\u00e9",
        "\u0661",
    ),
)
"""What no storage may take as an id: ways out of its root, and look-alikes of plain names."""

_DEADLINE = 120.0  # seconds; a process that takes longer hangs


class CheckpointStorageSuite:
    """Subclass this in the tests of a checkpoint storage plugin, which must be installed.

        class TestDirectory(CheckpointStorageSuite):
            plugin = "directory"

            def options(self, root):
                return {"container_path": str(root / "checkpoints")}

    The tests write a few hundred small checkpoints, some in processes that are killed on the way.
    """

    plugin: ClassVar[str]
    """The plugin's name."""

    across_processes: ClassVar[bool] = True
    """Whether one process finds what another one committed; without it the tests with several processes are skipped."""

    def options(self, root: Path) -> Mapping[str, Any]:
        """Options for a storage that is empty; `root` is an empty folder of the test's own."""
        return {}

    def open(self, root: Path) -> CheckpointStorage:
        """The storage of `options(root)`, anew; to be overridden where it is not made by the plugin's factory."""
        return open_storage(self.plugin, self.options(root), root / "default")

    @pytest.fixture
    def storage(self, tmp_path: Path) -> CheckpointStorage:
        """The storage under test, empty."""
        return self.open(tmp_path)

    def test_a_committed_checkpoint_comes_back_byte_for_byte(self, storage: CheckpointStorage) -> None:
        """What was written between `begin` and `commit` is what `fetch` gives, and nothing else."""
        write(storage, "first")
        assert _content(storage, "first") == FILES

    def test_a_checkpoint_is_brought_into_a_folder(self, storage: CheckpointStorage, tmp_path: Path) -> None:
        """`bring` copies what `fetch` gives, and tells of all of its bytes in the end."""
        write(storage, "first")
        heard: list[tuple[int, int]] = []
        target = tmp_path / "target"
        target.mkdir()
        storage.bring("first", target, lambda done, total: heard.append((done, total)))
        assert {path.name: path.read_bytes() for path in target.iterdir()} == FILES
        size = sum(map(len, FILES.values()))
        assert heard == sorted(heard)
        assert heard[-1] == (size, size)
        with pytest.raises(CheckpointError, match="other"):
            storage.bring("other", target, lambda _done, _total: None)

    def test_another_object_finds_what_was_committed(self, storage: CheckpointStorage, tmp_path: Path) -> None:
        """Nothing of a checkpoint is kept in the object that wrote it."""
        write(storage, "first")
        other = self.open(tmp_path)
        assert other.ids() == ["first"]
        assert _content(other, "first") == FILES

    def test_begin_gives_an_empty_folder(self, storage: CheckpointStorage) -> None:
        """The folder exists, is empty and can be written."""
        folder = storage.begin("first")
        assert folder.is_dir()
        assert list(folder.iterdir()) == []

    def test_begin_clears_what_an_unfinished_begin_left(self, storage: CheckpointStorage) -> None:
        """Files of a writer that was cut off do not get into the next one's checkpoint."""
        (storage.begin("first") / "left-over").write_bytes(b"old")
        write(storage, "first")
        assert _content(storage, "first") == FILES

    def test_nothing_is_visible_before_commit(self, storage: CheckpointStorage) -> None:
        """A checkpoint that is only begun is not listed and cannot be fetched, even with its manifest written."""
        write_files(storage.begin("first"))
        assert storage.ids() == []
        with pytest.raises(CheckpointError, match="first"):
            _content(storage, "first")

    def test_ids_are_sorted(self, storage: CheckpointStorage) -> None:
        """`ids` lists every complete checkpoint once, sorted."""
        for name in ("b", "c", "a", "B-2.x_y", "0"):
            write(storage, name)
        assert storage.ids() == sorted(["b", "c", "a", "B-2.x_y", "0"])

    def test_all_of_many_are_listed(self, storage: CheckpointStorage) -> None:
        """`ids` leaves none out; that one id begins like another one makes no difference."""
        names = [f"n-{number}" for number in range(100)]
        for name in names:
            write(storage, name)
        storage.delete("n-1")
        assert storage.ids() == sorted(set(names) - {"n-1"})
        assert _content(storage, "n-11") == FILES

    def test_an_empty_storage_has_no_ids(self, storage: CheckpointStorage) -> None:
        """A storage that was never written to is empty, not an error."""
        assert storage.ids() == []

    def test_an_id_is_used_once(self, storage: CheckpointStorage) -> None:
        """`begin` refuses an id that is taken, and the checkpoint that has it stays as it is."""
        write(storage, "first")
        with pytest.raises(CheckpointError, match="first"):
            storage.begin("first")
        assert _content(storage, "first") == FILES

    def test_commit_needs_a_begin(self, storage: CheckpointStorage) -> None:
        """A commit out of order is refused."""
        with pytest.raises(CheckpointError, match="first"):
            storage.commit("first")
        assert storage.ids() == []

    def test_commit_needs_a_manifest(self, storage: CheckpointStorage) -> None:
        """A folder without a manifest is no checkpoint."""
        (storage.begin("first") / "model.safetensors").write_bytes(b"x")
        with pytest.raises(CheckpointError, match=MANIFEST):
            storage.commit("first")
        assert storage.ids() == []

    def test_a_checkpoint_that_is_not_there_is_named(self, storage: CheckpointStorage) -> None:
        """`fetch` of an unknown id says which."""
        with pytest.raises(CheckpointError, match="absent"):
            _content(storage, "absent")

    def test_delete_removes_one_and_leaves_the_others(self, storage: CheckpointStorage) -> None:
        """After `delete` the id is free again."""
        write(storage, "first")
        write(storage, "second")
        storage.delete("first")
        assert storage.ids() == ["second"]
        assert _content(storage, "second") == FILES
        write(storage, "first")
        assert storage.ids() == ["first", "second"]

    def test_delete_of_what_is_not_there_is_no_error(self, storage: CheckpointStorage) -> None:
        """`delete` can be repeated, as after a crash."""
        storage.delete("absent")
        write(storage, "first")
        storage.delete("first")
        storage.delete("first")
        assert storage.ids() == []

    def test_delete_clears_what_an_unfinished_begin_left(self, storage: CheckpointStorage) -> None:
        """Giving up a checkpoint frees its space."""
        folder = storage.begin("first")
        write_files(folder)
        storage.delete("first")
        assert not folder.exists()
        with pytest.raises(CheckpointError, match="first"):
            storage.commit("first")

    def test_what_is_begun_is_listed_as_unfinished_until_it_is_committed_or_deleted(
        self, storage: CheckpointStorage, tmp_path: Path
    ) -> None:
        """So that what a killed writer left can be found and deleted, by another object too."""
        assert storage.unfinished() == []
        write(storage, "whole")
        for name in ("b", "a"):
            write_files(storage.begin(name))
        assert self.open(tmp_path).unfinished() == ["a", "b"]
        storage.commit("a")
        assert storage.unfinished() == ["b"]
        self.open(tmp_path).delete("b")
        assert storage.unfinished() == []
        assert storage.ids() == ["a", "whole"]

    def test_what_is_abandoned_leaves_nothing(self, storage: CheckpointStorage) -> None:
        """After a failure; what is not there is no error."""
        folder = storage.begin("first")
        write_files(folder)
        storage.abandon("first")
        assert not folder.exists()
        assert storage.unfinished() == []
        storage.abandon("first")

    def test_a_checkpoint_is_examined_where_it_lies(self, storage: CheckpointStorage) -> None:
        """The manifest is told as it is, and of every other file what the storage knows."""
        assert storage.examine("first") is None
        write_files(storage.begin("first"))
        assert storage.examine("first") is None
        storage.commit("first")
        stored = storage.examine("first")
        assert stored is not None
        assert stored.manifest == FILES[MANIFEST]
        assert sorted(stored.files) == sorted(set(FILES) - {MANIFEST})
        for name, file in stored.files.items():
            assert file.size in (len(FILES[name]), None)
            assert file.sha256 in (hashlib.sha256(FILES[name]).hexdigest(), None)

    def test_a_checkpoint_can_be_located(self, storage: CheckpointStorage) -> None:
        """A person is told where each checkpoint lies."""
        assert "first" in storage.locate("first")
        assert storage.locate("first") != storage.locate("second")

    @pytest.mark.parametrize("checkpoint_id", NOT_IDS, ids=ascii)
    def test_what_is_not_an_id_is_refused(self, storage: CheckpointStorage, tmp_path: Path, checkpoint_id: str) -> None:
        """No method takes it, and nothing is made anywhere."""
        write(storage, "first")
        before = _tree(tmp_path)
        methods = (storage.begin, storage.commit, storage.fetch, storage.delete, storage.locate)
        for method in (*methods, storage.abandon, storage.examine):
            with pytest.raises(CheckpointError, match="not a checkpoint id"):
                method(checkpoint_id)
        assert _tree(tmp_path) == before

    def test_unknown_options_are_refused_by_name(self, tmp_path: Path) -> None:
        """The text names the option that is unknown."""
        with pytest.raises(PluginError, match="no_such_option"):
            open_storage(self.plugin, {**self.options(tmp_path), "no_such_option": 1}, tmp_path / "default")

    def test_processes_can_write_side_by_side(self, storage: CheckpointStorage, tmp_path: Path) -> None:
        """Each on ids of its own, in a storage that none of them has used before."""
        self._needs_processes()
        processes = [self._start(tmp_path, "write many", prefix=prefix) for prefix in ("a", "b", "c")]
        for process in processes:
            _finish(process)
        assert len(storage.ids()) == 60
        assert all(_content(storage, name) == FILES for name in storage.ids())

    @pytest.mark.parametrize("work", ["write", "delete"])
    def test_killed_at_any_operation_a_checkpoint_is_whole_or_absent(
        self, storage: CheckpointStorage, tmp_path: Path, work: Literal["write", "delete"]
    ) -> None:
        """SIGKILL before every operation of `begin` and `commit`, or of `delete`; the id can be used afterwards."""
        self._needs_processes()
        codes = json.loads(_finish(self._start(tmp_path, work, fault="kill")))
        assert set(codes[:-1]) == {-9}, codes
        left = storage.unfinished()
        assert left, "a writer that is killed leaves something"
        assert not set(left) & set(storage.ids())
        storage.delete(left[0])
        assert storage.unfinished() == left[1:]
        self._check_whole_or_absent(storage, len(codes))

    @pytest.mark.parametrize("work", ["write", "delete"])
    def test_failing_at_any_operation_a_checkpoint_is_whole_or_absent(
        self, storage: CheckpointStorage, tmp_path: Path, work: Literal["write", "delete"]
    ) -> None:
        """A full disk before every operation is a CheckpointError; a write that raised one left nothing visible."""
        self._needs_processes()
        codes = json.loads(_finish(self._start(tmp_path, work, fault="enospc")))
        assert FAULT_ESCAPED not in codes, "an exception that is no CheckpointError came out of the storage"
        assert set(codes[:-1]) <= {FAULT_REFUSED, FAULT_SURVIVED}, codes
        if work == "write":
            refused = {f"n-{number}" for number, code in enumerate(codes, start=1) if code == FAULT_REFUSED}
            assert refused, codes
            assert not refused & set(storage.ids())
        self._check_whole_or_absent(storage, len(codes))

    def _check_whole_or_absent(self, storage: CheckpointStorage, count: int) -> None:
        assert count > 1
        visible = storage.ids()
        for name in (f"n-{number}" for number in range(1, count + 1)):
            if name in visible:
                assert _content(storage, name) == FILES
                continue
            with pytest.raises(CheckpointError, match=name):
                _content(storage, name)
            write(storage, name)
            assert _content(storage, name) == FILES

    def _needs_processes(self) -> None:
        if not self.across_processes:
            pytest.skip("no other process sees what is kept in this storage")

    def _start(
        self,
        root: Path,
        work: Literal["write", "delete", "write many"],
        *,
        prefix: str = "n",
        fault: Literal["kill", "enospc"] = "kill",
    ) -> subprocess.Popen[str]:
        job = Job(
            plugin=self.plugin,
            options=self.options(root),
            default_root=str(root / "default"),
            prefix=prefix,
            work=work,
            fault=fault,
        )
        command = [sys.executable, "-m", "mnist_trials.testing.storage_process", json.dumps(asdict(job))]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # noqa: S603


def _finish(process: subprocess.Popen[str]) -> str:
    with process:
        try:
            output, errors = process.communicate(timeout=_DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert process.returncode == 0, errors
    return output


def _content(storage: CheckpointStorage, checkpoint_id: str) -> dict[str, bytes]:
    with storage.fetch(checkpoint_id) as folder:
        return {path.name: path.read_bytes() for path in folder.iterdir()}


def _tree(root: Path) -> list[Path]:
    return sorted(root.parent.rglob("*"))
