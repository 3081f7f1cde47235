"""Standard streams that are closed, full, or of a small alphabet."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = (sys.executable, "-m", "mnist_trials")
DEADLINE = 120


def shell(line: str, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `line`, in which `"$@"` stands for the program with `arguments`."""
    return subprocess.run(
        ["sh", "-c", line, "sh", *PROGRAM, *(str(argument) for argument in arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1", **variables},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


@pytest.mark.slow
def test_an_experiment_runs_with_every_standard_stream_closed(cli, project: Path) -> None:
    done = shell('"$@" <&- >&- 2>&-', "create", project)
    assert done.returncode == 0
    assert cli("describe", 1, "--json").document["state"] == "COMPLETED"
    assert "validating" in cli("logs", 1).out


def test_delete_with_stdin_closed_asks_for_yes(stored: Path) -> None:
    done = shell('"$@" <&-', "delete", 1)
    assert done.returncode == 2
    assert "say so with --yes" in done.stderr


def test_errors_that_nobody_reads_leave_the_exit_status_as_it_is(home: Path) -> None:
    done = shell('exec 3>&1; { "$@" 2>&1 >&3; echo $? >&3; } | true', "describe", 1)
    assert done.stdout == "2\n"


@pytest.mark.parametrize("arguments", [("list", "--json"), ("list",), ("metrics", "1.1", "--csv"), ("logs", "1.1")])
def test_output_that_cannot_be_written_is_an_error(stored: Path, arguments: tuple[str, ...]) -> None:
    folder = stored / "experiments" / "1" / "trials" / "1"
    folder.mkdir(parents=True)
    (folder / "log.txt").write_text("something")
    done = shell('"$@" >/dev/full', *arguments)
    assert done.returncode == 2
    assert done.stderr == "mnist-trials: error: the output cannot be written: No space left on device\n"


@pytest.mark.slow
def test_what_an_encoding_lacks_is_shown_as_an_escape(cli, project: Path) -> None:
    project.write_text(project.read_text().replace("name: tiny", "name: größe\ndescription: naïve"), encoding="utf-8")
    assert shell('"$@"', "create", project, "--test", PYTHONIOENCODING="ascii").returncode == 0
    shown = shell('"$@"', "describe", 1, PYTHONIOENCODING="ascii")
    assert shown.returncode == 0, shown.stderr
    assert "(gr\\xf6\\xdfe)" in shown.stdout
    assert "na\\xefve" in shown.stdout
    listed = shell('"$@"', "list", "--json", PYTHONIOENCODING="ascii")
    assert json.loads(listed.stdout)[0]["name"] == "größe"
