"""`logs`: what trials printed, through rotation, until the trial has ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from mnist_trials.cli.logs import follow, log_files


def steps(*actions: Callable[[], object]) -> Callable[[], bool]:
    """An `ended` that does one thing each time it is asked, and is true when there is nothing left to do."""
    left: Iterator[Callable[[], object]] = iter(actions)

    def ended() -> bool:
        action = next(left, None)
        if action is None:
            return True
        action()
        return False

    return ended


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def rotate(path: Path) -> None:
    for number in (2, 1):
        older = path.with_name(f"{path.name}.{number}")
        if older.exists():
            older.rename(path.with_name(f"{path.name}.{number + 1}"))
    path.rename(path.with_name(f"{path.name}.1"))


def test_rotated_files_come_oldest_first_and_others_not_at_all(tmp_path: Path) -> None:
    for name in ("log.txt", "log.txt.1", "log.txt.2", "log.txt.10", "log.txt.bak", "another.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in log_files(tmp_path / "log.txt")] == [
        "log.txt.10",
        "log.txt.2",
        "log.txt.1",
        "log.txt",
    ]


def test_following_goes_on_until_the_end_and_misses_nothing_written_before_it(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    append(log, "one\n")
    ended = steps(lambda: append(log, "two\n"), lambda: None, lambda: append(log, "three\n"))
    assert b"".join(follow(log, ended)) == b"one\ntwo\nthree\n"


def test_following_waits_for_a_log_that_is_not_there_yet(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    assert b"".join(follow(log, steps(lambda: None, lambda: append(log, "late\n")))) == b"late\n"


def test_following_reads_a_file_that_is_rotated_away_to_its_end(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    append(log, "one\n")

    def rotated() -> None:
        append(log, "two\n")
        rotate(log)
        append(log, "three\n")

    assert b"".join(follow(log, steps(rotated, rotated))) == b"one\ntwo\nthree\ntwo\nthree\n"


def test_following_misses_nothing_where_the_log_is_rotated_twice_between_two_looks(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    append(log, "one\n")

    def rotated_twice() -> None:
        append(log, "two\n")
        rotate(log)
        append(log, "three\n")
        rotate(log)
        append(log, "four\n")

    assert b"".join(follow(log, steps(lambda: None, rotated_twice))) == b"one\ntwo\nthree\nfour\n"


def test_following_goes_on_with_what_is_left_where_its_file_was_removed(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    append(log, "one\n")

    def replaced() -> None:
        log.unlink()
        append(log, "two\n")

    assert b"".join(follow(log, steps(lambda: None, replaced))) == b"one\ntwo\n"


def test_logs_of_a_trial_are_all_its_files_byte_by_byte(cli, stored: Path) -> None:
    folder = stored / "experiments" / "1" / "trials" / "1"
    folder.mkdir(parents=True)
    (folder / "log.txt.1").write_bytes(b"older\n")
    (folder / "log.txt").write_bytes("newer\r caf\u00e9 \n".encode())
    outcome = cli("logs", "1.1")
    assert outcome.status == 0
    assert outcome.out == "older\nnewer\r caf\u00e9 \n"


def test_logs_of_a_trial_that_has_printed_nothing_say_where_they_would_be(cli, stored: Path) -> None:
    outcome = cli("logs", "1.1")
    assert outcome.status == 2
    assert "trial 1.1 has printed nothing yet" in outcome.err
    assert "trials/1/log.txt" in outcome.err
