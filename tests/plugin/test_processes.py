from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from mnist_trials.plugin.processes import group_members, identify, kill_group, read_stat, reap, same_group

LEADER = """
import subprocess, sys
children = [subprocess.Popen(["sleep", "600"], process_group=group) for group in (None, 0)]
print(*(child.pid for child in children), flush=True)
sys.stdin.read()
"""


@contextmanager
def group() -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A leader of its own session with a child in its group and one in another group of the session."""
    leader = subprocess.Popen(
        [sys.executable, "-S", "-c", LEADER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert leader.stdout is not None
    with leader:
        try:
            yield leader, [int(pid) for pid in leader.stdout.readline().split()]
        finally:
            kill_group(leader.pid)


def alive(pid: int) -> bool:
    stat = read_stat(pid)
    return stat is not None and stat.alive


def test_the_members_of_a_group_are_those_of_its_session_too() -> None:
    with group() as (leader, children):
        assert sorted(group_members(leader.pid)) == sorted([leader.pid, *children])


def test_reap_ends_a_group_and_waits_for_it() -> None:
    with group() as (leader, children):
        assert reap(identify(leader.pid))
        assert not any(map(alive, [leader.pid, *children]))


def test_reap_ends_what_a_leader_left_behind() -> None:
    with group() as (leader, children):
        identity = identify(leader.pid)
        leader.kill()
        leader.wait()
        assert all(map(alive, children))
        assert reap(identity)
        assert not any(map(alive, children))


def test_reap_of_a_group_that_is_gone_is_done_at_once() -> None:
    with group() as (leader, _):
        identity = identify(leader.pid)
    assert reap(identity)


@pytest.mark.parametrize("other", [{"start_time": "1"}, {"boot_id": "another boot"}])
def test_a_number_that_was_given_out_again_is_left_alone(other: dict[str, str]) -> None:
    with group() as (leader, children):
        identity = replace(identify(leader.pid), **other)
        assert not same_group(identity)
        assert reap(identity)
        assert all(map(alive, [leader.pid, *children]))


def test_a_process_that_does_not_exist_has_no_identity() -> None:
    with pytest.raises(ProcessLookupError, match="no process 4194305"):
        identify(4_194_305)


def test_names_with_parentheses_and_spaces_do_not_confuse_the_reading() -> None:
    code = "import pathlib; pathlib.Path('/proc/self/comm').write_text('a) R (b c'); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-S", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        stat = read_stat(process.pid)
        assert stat is not None
        assert stat.group == os.getpgrp()
        assert stat.session == os.getsid(0)
        assert stat.threads == 1
        process.communicate(b"\n")
