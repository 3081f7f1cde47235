"""What the storages on fsspec share, on its file systems of this machine and of memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from typing_extensions import override

from mnist_trials.checkpoint import CheckpointContent, write_checkpoint
from mnist_trials.errors import CheckpointError
from mnist_trials.plugin import MANIFEST, CheckpointStorage
from mnist_trials.testing import CheckpointStorageSuite
from mnist_trials.testing.storage_process import FILES, write, write_files
from mnist_trials_plugins.checkpoint_storage._remote import Remote, RemoteStorage
from mnist_trials_plugins.checkpoint_storage._retry import Retry

SECRET = "correct horse battery"


class SteppedClock:
    """Goes on only while somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


class Failing(MemoryFileSystem):
    """A memory of its own that raises what `fault` gives for the n-th operation and the name of it."""

    cachable = False

    def __init__(self) -> None:
        super().__init__(global_store=False)
        self.count = 0
        self.fault: Callable[[int, str], BaseException | None] = lambda _n, _name: None

    def _pass(self, name: str) -> None:
        self.count += 1
        if (error := self.fault(self.count, name)) is not None:
            raise error

    def find(self, *args: Any, **kwargs: Any) -> Any:
        self._pass("find")
        return super().find(*args, **kwargs)

    def put_file(self, *args: Any, **kwargs: Any) -> Any:
        self._pass("put_file")
        return super().put_file(*args, **kwargs)

    def get_file(self, *args: Any, **kwargs: Any) -> Any:
        self._pass("get_file")
        return super().get_file(*args, **kwargs)

    def rm(self, *args: Any, **kwargs: Any) -> Any:
        self._pass("rm")
        return super().rm(*args, **kwargs)

    def rm_file(self, *args: Any, **kwargs: Any) -> Any:
        self._pass("rm_file")
        return super().rm_file(*args, **kwargs)

    def mv(self, *args: Any, **kwargs: Any) -> Any:
        self._pass("mv")
        return super().mv(*args, **kwargs)


def storage_on(files: Any, staging: Path, clock: SteppedClock | None = None, **more: Any) -> RemoteStorage:
    clock = clock or SteppedClock()
    remote = Remote(
        connect=lambda: (files, "/kept"),
        **{"url": "memory://kept", "access": "Look at the options.", "secrets": (SECRET,), **more},
    )
    return RemoteStorage(remote, staging, Retry(clock=clock, wait=clock.wait))


def content(storage: CheckpointStorage, checkpoint_id: str) -> dict[str, bytes]:
    with storage.fetch(checkpoint_id) as folder:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class TestOnFoldersOfThisMachine(CheckpointStorageSuite):
    plugin = "memory"  # for its options; the storage is not the plugin's
    across_processes = False

    @override
    def open(self, root: Path) -> CheckpointStorage:
        files = fsspec.filesystem("file")
        remote = Remote(connect=lambda: (files, str(root / "remote")), url=f"file://{root}/remote", access="")
        return RemoteStorage(remote, root / "staging", Retry())


class TestOnAnObjectStoreOfMemory(CheckpointStorageSuite):
    plugin = "memory"
    across_processes = False
    stores: Mapping[Path, Any] = {}

    @override
    def open(self, root: Path) -> CheckpointStorage:
        self.stores = {root: Failing(), **self.stores}
        return storage_on(self.stores[root], root / "staging", whole_puts=True)


def test_what_is_abandoned_when_nobody_answers_is_not_waited_for(tmp_path: Path) -> None:
    files, clock = Failing(), SteppedClock()
    storage = storage_on(files, tmp_path, clock, whole_puts=True)
    folder = storage.begin("first")
    write_files(folder)
    files.fault = lambda _n, _name: ConnectionRefusedError(111, "refused")
    before = files.count
    storage.abandon("first")
    assert files.count == before + 1
    assert clock.waits == []
    assert not folder.exists()
    with pytest.raises(CheckpointError):
        storage.delete("first")
    assert sum(clock.waits) > 30


def test_a_save_that_waited_for_a_storage_in_vain_does_not_wait_for_it_once_more(tmp_path: Path) -> None:
    files, clock = Failing(), SteppedClock()
    storage = storage_on(files, tmp_path, clock, whole_puts=True)
    state = CheckpointContent(
        model={},
        state={},
        batches=1,
        epochs=1.0,
        records=1,
        metrics={},
        hparams={},
        trial_class="a:B",
        experiment_id=1,
        trial_id=1,
        config={},
        code=None,
    )
    files.fault = lambda _n, name: ConnectionRefusedError(111, "refused") if name == "put_file" else None
    with pytest.raises(CheckpointError, match="it did not answer as it should"):
        write_checkpoint(storage, "first", state)
    assert 30 < clock.now <= 60
    waits = len(clock.waits)
    files.fault = lambda _n, name: None
    assert storage.unfinished() == []
    assert len(clock.waits) == waits


@pytest.mark.parametrize("whole_puts", [False, True])
def test_any_operation_of_any_work_may_fail_for_a_while(tmp_path: Path, whole_puts: bool) -> None:
    files = Failing()
    clock = SteppedClock()
    storage = storage_on(files, tmp_path, clock, whole_puts=whole_puts)
    write(storage, "undisturbed")
    content(storage, "undisturbed")
    storage.delete("undisturbed")
    total = files.count
    assert total > 10
    for number in range(1, total + 1):
        files.count = 0
        files.fault = lambda n, _name, number=number: ConnectionResetError(104, "reset") if n == number else None
        name = f"n-{number}"
        write(storage, name)
        assert content(storage, name) == FILES
        storage.delete(name)
        assert storage.ids() == []
        assert files.store == {}
    assert len(clock.waits) == total  # one for each


@pytest.mark.parametrize("whole_puts", [False, True])
@pytest.mark.parametrize("error", [PermissionError(13, f"no, {SECRET}"), OSError(28, "No space left on device")])
def test_a_commit_that_fails_for_good_fails_at_once_and_leaves_nothing(
    tmp_path: Path, whole_puts: bool, error: OSError
) -> None:
    files = Failing()
    clock = SteppedClock()
    storage = storage_on(files, tmp_path, clock, whole_puts=whole_puts)
    write_files(storage.begin("first"))
    number = 0
    while True:
        number += 1
        files.count = 0
        files.fault = lambda n, _name, number=number: error if n == number else None
        try:
            storage.commit("first")
        except CheckpointError as raised:
            said = str(raised)
        else:
            break
        assert "'first' could not be stored in memory://kept" in said
        assert SECRET not in said
        files.fault = lambda _n, _name: None
        assert storage.ids() == []
        assert files.store == {}
    assert number > 6
    assert clock.waits == []
    files.fault = lambda _n, _name: None
    assert content(storage, "first") == FILES


def test_a_place_that_does_not_answer_is_given_up_after_a_minute_with_growing_pauses(tmp_path: Path) -> None:
    files = Failing()
    clock = SteppedClock()
    storage = storage_on(files, tmp_path, clock)
    files.fault = lambda _n, _name: TimeoutError(f"nobody at home, {SECRET}")
    with pytest.raises(CheckpointError) as error:
        storage.begin("first")
    assert "'first' could not be begun in memory://kept: it did not answer as it should, tried" in str(error.value)
    assert "nobody at home, ***. Check the network and the service" in str(error.value)
    assert error.value.__cause__ is None  # it would be printed, with what it tells
    assert 40.0 < clock.now <= 60.0
    assert 0.25 <= clock.waits[0] <= 0.5
    assert 5.0 <= clock.waits[-1] <= 10.0


def test_an_error_without_secrets_is_kept_as_the_cause(tmp_path: Path) -> None:
    files = Failing()
    files.fault = lambda _n, _name: ValueError("odd")
    with pytest.raises(CheckpointError, match=r"could not be listed in memory://kept: ValueError: odd\.") as error:
        storage_on(files, tmp_path).ids()
    assert isinstance(error.value.__cause__, ValueError)


def test_the_minute_is_for_all_steps_of_a_commit_together(tmp_path: Path) -> None:
    files = Failing()
    clock = SteppedClock()
    storage = storage_on(files, tmp_path, clock, whole_puts=True)
    write_files(storage.begin("first"))
    files.count = 0
    # Each of seven steps fails six times, for 13 to 26 seconds, and would then go through.
    files.fault = lambda n, _name: ConnectionError("away") if n % 7 else None
    with pytest.raises(CheckpointError, match="it did not answer as it should"):
        storage.commit("first")
    assert clock.now <= 60.0


def test_what_was_stored_short_is_found_and_removed(tmp_path: Path) -> None:
    class Short(Failing):
        def put_file(self, lpath: str, rpath: str, **kwargs: Any) -> None:
            self.pipe_file(rpath, Path(lpath).read_bytes()[:3])

    files = Short()
    storage = storage_on(files, tmp_path, whole_puts=True)
    write_files(storage.begin("first"))
    with pytest.raises(CheckpointError, match=r"first/model\.safetensors was uploaded and has 3 bytes, not 76800\."):
        storage.commit("first")
    assert storage.ids() == []
    assert files.store == {}


def test_what_was_not_stored_at_all_is_found(tmp_path: Path) -> None:
    class Lossy(Failing):
        def put_file(self, lpath: str, rpath: str, **kwargs: Any) -> None:
            if not rpath.endswith("state.json"):
                super().put_file(lpath, rpath, **kwargs)

    storage = storage_on(Lossy(), tmp_path, whole_puts=True)
    write_files(storage.begin("first"))
    with pytest.raises(CheckpointError, match=r"first/state\.json was uploaded and is not there"):
        storage.commit("first")
    assert storage.ids() == []


def test_a_download_cut_short_is_an_error(tmp_path: Path) -> None:
    class Short(Failing):
        def get_file(self, rpath: str, lpath: str, **kwargs: Any) -> None:
            Path(lpath).write_bytes(self.cat_file(rpath)[:3])

    storage = storage_on(Short(), tmp_path)
    write(storage, "first")
    with pytest.raises(CheckpointError, match=r"has \d+ bytes, of which 3 came"):
        content(storage, "first")


def test_a_file_system_that_tells_no_sizes_is_believed(tmp_path: Path) -> None:
    class Silent(Failing):
        def find(self, *args: Any, **kwargs: Any) -> Any:
            return {name: {"type": "file"} for name in super().find(*args, **kwargs)}

    storage = storage_on(Silent(), tmp_path)
    write(storage, "first")
    assert content(storage, "first") == FILES


def test_the_manifest_is_the_last_to_come_and_the_first_to_go(tmp_path: Path) -> None:
    seen: list[tuple[str, bool, int]] = []
    files = Failing()
    storage = storage_on(files, tmp_path, whole_puts=True)

    def look(_n: int, name: str) -> None:
        seen.append((name, f"/kept/first/{MANIFEST}" in files.store, len(files.store)))

    files.fault = look
    write(storage, "first")
    assert [entry for entry in seen if entry[1]] == [("find", True, 4)]  # the last look at it
    assert [entry for entry in seen if entry[0] == "put_file"][-1] == ("put_file", False, 3)
    seen.clear()
    storage.delete("first")
    assert seen[0] == ("rm_file", True, 4)
    assert [entry for entry in seen[1:] if entry[1]] == []


def test_where_files_grow_while_they_are_uploaded_the_manifest_gets_its_name_when_it_is_whole(tmp_path: Path) -> None:
    files = Failing()
    storage = storage_on(files, tmp_path)
    write_files(storage.begin("first"))
    seen: list[tuple[str, list[str]]] = []
    files.fault = lambda _n, name: seen.append((name, sorted(files.store)))
    storage.commit("first")
    ((_, before),) = [entry for entry in seen if entry[0] == "mv"]
    assert f"/kept/first/{MANIFEST}" not in before
    assert "/kept/first/.manifest.part" in before


def test_a_writer_killed_while_it_gives_the_manifest_its_name_leaves_a_checkpoint_or_none(tmp_path: Path) -> None:
    files = Failing()
    storage = storage_on(files, tmp_path)
    write(storage, "first")
    files.pipe_file("/kept/first/.manifest.part", FILES[MANIFEST])  # it was copied, and not yet removed
    assert content(storage, "first") == FILES
    files.mv(f"/kept/first/{MANIFEST}", "/kept/first/.manifest.part")  # it was not yet copied
    assert storage.ids() == []
    write(storage, "first")
    assert content(storage, "first") == FILES


def test_files_in_folders_come_back(tmp_path: Path) -> None:
    storage = storage_on(Failing(), tmp_path)
    folder = storage.begin("first")
    (folder / "rank" / "1").mkdir(parents=True)
    (folder / "rank" / "1" / "state.json").write_text("1")
    (folder / MANIFEST).write_text("{}")
    storage.commit("first")
    assert content(storage, "first") == {MANIFEST: b"{}", "rank/1/state.json": b"1"}
    assert storage.ids() == ["first"]


@pytest.mark.parametrize("kind", ["file", "folder", "nothing"])
def test_links_are_not_followed_out_of_what_is_stored(tmp_path: Path, kind: str) -> None:
    outside = tmp_path / "outside"
    {"file": lambda: outside.write_text("x"), "folder": outside.mkdir, "nothing": lambda: None}[kind]()
    files = Failing()
    storage = storage_on(files, tmp_path / "staging")
    write_files(folder := storage.begin("first"))
    (folder / "link").symlink_to(outside)
    with pytest.raises(CheckpointError, match=r"link is no regular file"):
        storage.commit("first")
    assert files.store == {}


def test_a_staging_folder_that_is_a_link_is_no_begin(tmp_path: Path) -> None:
    storage = storage_on(Failing(), tmp_path / "staging")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / MANIFEST).write_text("{}")
    (tmp_path / "staging").mkdir()
    (tmp_path / "staging" / ".tmp-first").symlink_to(tmp_path / "outside")
    with pytest.raises(CheckpointError, match="was not begun"):
        storage.commit("first")
    write(storage, "first")
    assert (tmp_path / "outside" / MANIFEST).exists()


def test_a_machine_without_room_for_the_files_on_their_way_is_told(tmp_path: Path) -> None:
    (tmp_path / "staging").write_text("in the way")
    with pytest.raises(CheckpointError) as error:
        storage_on(Failing(), tmp_path / "staging").begin("first")
    assert f"its files pass through {tmp_path}/staging on this machine, where: " in str(error.value)


def test_a_storage_shows_no_secret(tmp_path: Path) -> None:
    storage = storage_on(Failing(), tmp_path)
    assert SECRET not in repr(storage)
    assert SECRET not in repr(storage._remote)
    assert SECRET not in storage.locate("first")
