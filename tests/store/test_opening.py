"""What a home can be like when a store is wanted there: each trouble is a StoreError with what to do."""

from __future__ import annotations

import os
import resource
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from mnist_trials.errors import StoreError, UsageError
from mnist_trials.store import open_reader, open_store
from mnist_trials.store.network import network_file_system
from mnist_trials.store.schema import VERSION

MOUNTS = """\
22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
23 22 0:40 / /home rw shared:1 - nfs4 server:/home rw,vers=4.2
24 23 8:2 / /home/ann/my\\040disk rw - xfs /dev/sdb1 rw
25 22 0:41 / /mnt/share rw - ext4 /dev/sdc1 rw
26 22 0:42 / /mnt/share rw - cifs //server/share rw
27 22 0:43 / /homework rw - ext4 /dev/sdd1 rw
"""


def test_a_home_that_is_not_there_is_made(tmp_path: Path) -> None:
    open_store(tmp_path / "a" / "b").close()
    assert (tmp_path / "a" / "b" / "store.sqlite").exists()


def test_reading_where_there_is_no_store_finds_nothing_and_makes_nothing(tmp_path: Path) -> None:
    with open_reader(tmp_path / "none") as reader:
        assert reader.experiments() == []
        with pytest.raises(UsageError, match="no experiment 3"):
            reader.experiment(3)
    assert not (tmp_path / "none").exists()


def test_a_home_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    with pytest.raises(StoreError, match=r"home .*/home cannot be used: .*/home is not a folder\..*--home"):
        open_store(tmp_path / "home")


@pytest.mark.parametrize("home", ["home", "home/below"])
def test_a_home_that_is_a_file_is_not_read_as_an_empty_one(tmp_path: Path, home: str) -> None:
    (tmp_path / "home").write_text("")
    with pytest.raises(StoreError, match=rf"home .*/{home} cannot be used: .*/home is not a folder\..*--home"):
        open_reader(tmp_path / home)


def test_a_home_that_cannot_be_made_is_refused() -> None:
    with pytest.raises(StoreError, match="cannot be used"):
        open_store(Path("/proc/mnist-trials"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_home_that_is_not_writable_is_refused_for_writing_and_can_be_read(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(StoreError, match="not writable"):
            open_store(tmp_path)
        with open_reader(tmp_path) as reader:
            assert reader.experiments() == []
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("opener", [open_store, open_reader])
def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path, opener: object) -> None:
    file = tmp_path / "store.sqlite"
    file.write_text("this is not a database, " * 100)
    with pytest.raises(StoreError, match="not a SQLite database"):
        opener(tmp_path)  # type: ignore[operator]
    assert file.read_text().startswith("this is not")


@pytest.mark.parametrize("opener", [open_store, open_reader])
def test_a_database_of_another_program_is_refused(tmp_path: Path, opener: object) -> None:
    connection = sqlite3.connect(tmp_path / "store.sqlite")
    connection.execute("CREATE TABLE recipes (name TEXT)")
    connection.close()
    with pytest.raises(StoreError, match="database of another program"):
        opener(tmp_path)  # type: ignore[operator]


@pytest.mark.parametrize("opener", [open_store, open_reader])
def test_a_store_of_a_newer_version_is_refused_with_both_versions(tmp_path: Path, opener: object) -> None:
    open_store(tmp_path).close()
    connection = sqlite3.connect(tmp_path / "store.sqlite")
    connection.execute(f"PRAGMA user_version = {VERSION + 4}")
    connection.close()
    with pytest.raises(
        StoreError, match=f"has version {VERSION + 4}; this mnist-trials knows versions up to {VERSION}"
    ):
        opener(tmp_path)  # type: ignore[operator]


def test_an_empty_file_becomes_a_store(tmp_path: Path) -> None:
    (tmp_path / "store.sqlite").touch()
    with open_store(tmp_path), open_reader(tmp_path) as reader:
        assert reader.experiments() == []


def test_reading_brings_an_empty_file_up_to_date(tmp_path: Path) -> None:
    (tmp_path / "store.sqlite").touch()
    with open_reader(tmp_path) as reader:
        assert reader.experiments() == []


def test_a_damaged_file_is_told_as_damaged(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    file = tmp_path / "store.sqlite"
    data = bytearray(file.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    file.write_bytes(data)
    with pytest.raises(StoreError, match="damaged"), open_reader(tmp_path) as reader:
        reader.experiments()


def test_several_processes_can_make_the_same_store_at_once(tmp_path: Path) -> None:
    make = f"open_store(Path({str(tmp_path)!r}))"
    code = f"import sys; from mnist_trials.store import open_store; from pathlib import Path; sys.stdin.read(); {make}"
    processes = [subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) for _ in range(6)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
    assert [process.wait(timeout=60) for process in processes] == [0] * 6


def test_a_full_disk_is_told_and_loses_nothing_that_was_stored(tmp_path: Path) -> None:
    code = textwrap.dedent(
        f"""
        import resource, signal
        from pathlib import Path
        from mnist_trials.errors import StoreError
        from mnist_trials.store import open_store
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        with open_store(Path({str(tmp_path)!r})) as store:
            with store.transaction() as transaction:
                transaction.add_experiment("kept", {{}}, {{}})
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
            try:
                with store.transaction() as transaction:
                    transaction.add_experiment("lost", {{"text": "x" * 1_000_000}}, {{}})
            except StoreError as error:
                print(error)
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            with store.transaction() as transaction:
                transaction.add_experiment("later", {{}}, {{}})
        """
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert "cannot be used" in told
    assert "disk is full" in told
    with open_reader(tmp_path) as reader:
        assert [row.name for row in reader.experiments()] == ["kept", "later"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/home/ann/trials", "nfs4"),
        ("/home/ann/my disk/trials", None),
        ("/mnt/share/x", "cifs"),
        ("/homework/x", None),
        ("/var/x", None),
    ],
)
def test_the_file_system_is_that_of_the_deepest_and_last_mount(folder: str, kind: str | None) -> None:
    assert network_file_system(Path(folder), MOUNTS) == kind


def test_a_home_on_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"1 0 0:1 / {tmp_path.resolve()} rw - nfs4 server:/x rw\n")
    monkeypatch.setattr("mnist_trials.store.network._MOUNTS", mounts)
    for opener in (open_store, open_reader):
        (tmp_path / "home").mkdir(exist_ok=True)
        (tmp_path / "home" / "store.sqlite").touch()
        with pytest.raises(StoreError, match=r"network file system \(nfs4\).*local disk.*shared_fs"):
            opener(tmp_path / "home")


def test_a_new_store_is_for_its_owner_alone(tmp_path: Path) -> None:
    """Configs may hold secrets."""
    with open_store(tmp_path / "home") as store, store.transaction() as transaction:
        transaction.add_experiment("x", {}, {})
        modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "home").glob("store.sqlite*")}
    assert len(modes) == 3
    assert set(modes.values()) == {0o600}
