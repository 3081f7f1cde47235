"""How arguments are read, and how each kind of failure is told."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from mnist_trials.cli import registry
from mnist_trials.cli.command import Command, Invocation
from mnist_trials.cli.registry import COMMANDS
from mnist_trials.errors import ConfigError, Problem

CONTRACT = {
    "create", "init", "list", "describe", "trials", "metrics", "checkpoints", "logs", "validate", "compile",
    "plugins", "slots",
    "pause", "activate", "cancel", "kill", "delete", "wait", "evaluate", "export", "download", "decisions", "fork",
    "preview-search", "import",
}  # fmt: skip


def test_every_command_of_this_version_is_there() -> None:
    assert {command.name for command in COMMANDS} == CONTRACT


def test_help_names_every_command_with_its_summary(cli) -> None:
    outcome = cli("--help")
    assert outcome.status == 0
    for command in COMMANDS:
        assert f"  {command.name} " in outcome.out
        assert command.summary in outcome.out


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_has_help(cli, command: Command) -> None:
    outcome = cli(command.name, "--help")
    assert outcome.status == 0
    assert outcome.out.startswith(f"usage: mnist-trials {command.name} ")
    assert ("--json" in outcome.out) == command.json


def test_version(cli) -> None:
    outcome = cli("--version")
    assert outcome.status == 0
    assert outcome.out.startswith("mnist-trials ")


def test_no_command_at_all_is_bad_usage_and_shows_the_help(cli) -> None:
    outcome = cli()
    assert outcome.status == 2
    assert "which command?" in outcome.err
    assert "  create " in outcome.err
    assert outcome.out == ""


def test_an_unknown_command_is_told_with_the_nearest_and_all(cli) -> None:
    outcome = cli("creat")
    assert outcome.status == 2
    assert "there is no command 'creat'. Did you mean 'create'? Known: init, " in outcome.err


def test_an_unknown_option_is_told_with_the_nearest(cli) -> None:
    outcome = cli("create", "x.yaml", "--detatch")
    assert outcome.status == 2
    assert "there is no option '--detatch'. Did you mean '--detach'?" in outcome.err


def test_an_option_is_never_abbreviated(cli) -> None:
    assert cli("create", "x.yaml", "--det").status == 2


def test_one_argument_too_many_is_named(cli, home: Path) -> None:
    outcome = cli("list", "everything")
    assert outcome.status == 2
    assert "one argument too many: 'everything'" in outcome.err


def test_home_and_json_are_taken_before_and_after_the_command(cli, stored: Path, monkeypatch) -> None:
    monkeypatch.setenv("MNIST_TRIALS_HOME", str(stored.parent / "another"))
    expected = cli("list", "--json", "--home", stored).document
    assert len(expected) == 2
    assert cli("--home", stored, "--json", "list").document == expected
    assert cli("--json", "list", f"--home={stored}").document == expected


def test_home_given_after_the_command_wins(cli, stored: Path, tmp_path: Path) -> None:
    assert len(cli("--home", tmp_path / "none", "list", "--home", stored, "--json").document) == 2


def test_the_default_home_is_in_the_users_folder(program, tmp_path: Path) -> None:
    outcome = program("describe", "1", MNIST_TRIALS_HOME="", HOME=str(tmp_path))
    assert outcome.status == 2
    assert f"{tmp_path}/.mnist-trials" in outcome.err


def test_json_before_a_command_that_has_none_is_bad_usage(cli) -> None:
    outcome = cli("--json", "logs", "1")
    assert outcome.status == 2
    assert "'logs' has no --json" in outcome.err


def test_a_failure_with_json_is_still_one_document_on_stdout(program, home: Path) -> None:
    outcome = program("describe", "1", "--json")
    assert outcome.status == 2
    assert outcome.document["exit_status"] == 2
    assert "There is no experiment 1" in outcome.document["error"]
    assert "mnist-trials: error: There is no experiment 1" in outcome.err


def _command(run) -> Command:
    return Command(name="break", group="Test", summary="break", run=run)


def test_every_mistake_of_a_config_is_on_a_line_of_its_own(cli, monkeypatch) -> None:
    def run(call: Invocation) -> int:
        raise ConfigError([Problem("no key 'a'", "c.yaml", 1, 2), Problem("no key 'b'", "c.yaml", 3, 1)])

    monkeypatch.setattr(registry, "COMMANDS", (_command(run),))
    outcome = cli("break")
    assert outcome.status == 2
    assert outcome.err.splitlines() == [
        "c.yaml:1:2: no key 'a'",
        "c.yaml:3:1: no key 'b'",
        "mnist-trials: error: 2 mistakes in the config; nothing was started",
    ]
    assert cli("break", "--json").document["problems"][1] == {
        "message": "no key 'b'",
        "source": "c.yaml",
        "line": 3,
        "column": 1,
    }


def test_a_bug_of_ours_is_said_to_be_one_and_its_traceback_kept_in_a_file(cli, home: Path, monkeypatch) -> None:
    def run(call: Invocation) -> int:
        raise LookupError("oh")

    monkeypatch.setattr(registry, "COMMANDS", (_command(run),))
    outcome = cli("break")
    assert outcome.status == 1
    assert "LookupError: oh" in outcome.err
    assert "mistake in mnist-trials" in outcome.err
    assert "Traceback" not in outcome.err
    (file,) = (home / "errors").iterdir()
    assert str(file) in outcome.err
    assert "Traceback" in file.read_text()
    assert "['break']" in file.read_text()


def test_the_traceback_of_a_bug_is_kept_elsewhere_where_the_home_is_no_folder(cli, home: Path, monkeypatch) -> None:
    def run(call: Invocation) -> int:
        raise LookupError("oh")

    home.write_text("a file")
    monkeypatch.setattr(registry, "COMMANDS", (_command(run),))
    outcome = cli("break")
    assert outcome.status == 1
    assert "Traceback" in Path(outcome.err.split()[-1]).read_text()


def test_debugging_shows_the_traceback_at_once(cli, home: Path, monkeypatch) -> None:
    def run(call: Invocation) -> int:
        raise LookupError("oh")

    monkeypatch.setattr(registry, "COMMANDS", (_command(run),))
    monkeypatch.setenv("MNIST_TRIALS_DEBUG", "1")
    assert "Traceback" in cli("break").err
    assert not home.exists()


def test_an_interrupt_ends_with_130(cli, monkeypatch) -> None:
    def run(call: Invocation) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(registry, "COMMANDS", (_command(run),))
    outcome = cli("break")
    assert outcome.status == 130
    assert outcome.err == "mnist-trials: interrupted\n"


def test_a_reader_that_has_seen_enough_is_no_error(stored: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "mnist_trials", "metrics", "1.1", "--csv"],
        env=dict(os.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(60) == 0


def test_a_store_of_a_newer_version_is_refused_with_both_versions(cli, stored: Path) -> None:
    with sqlite3.connect(stored / "store.sqlite") as connection:
        connection.execute("PRAGMA user_version = 1000")
    connection.close()
    outcome = cli("list")
    assert outcome.status == 2
    assert "version 1000" in outcome.err
    assert "Traceback" not in outcome.err


def test_a_command_that_only_looks_imports_nothing_heavy(stored: Path, project: Path) -> None:
    looking = ["--help", "create --help", "list --json", "list", "describe 1", "trials 1", "metrics 1.1 --csv"]
    looking += ["decisions 1", "checkpoints 1", "plugins", "plugins --json", f"preview-search {project}"]
    heavy = ("torch", "rich", "wandb", "numpy", "torchvision", "safetensors", "optuna")
    script = (
        "import json, sys\n"
        "from mnist_trials.cli.main import main\n"
        f"for line in {looking!r}:\n"
        "    status = main(line.split())\n"
        f"    found = [name for name in {heavy!r} if name in sys.modules]\n"
        "    assert (status, found) == (0, []), (line, status, found)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_the_module_and_the_script_are_the_same_program(program, home: Path) -> None:
    script = Path(sys.executable).parent / "mnist-trials"
    done = subprocess.run([script, "--help"], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == program("--help").out
