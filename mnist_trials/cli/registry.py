"""All commands, in the order in which help shows them. Importing this imports nothing heavy."""

from __future__ import annotations

from mnist_trials.cli import (
    compile,  # noqa: A004 - a module named like the command
    decisions,
    download,
    evaluate,
    export,
    import_,
    life,
    logs,
    machine,
    preview,
    project,
    queries,
    running,
    validate,
)
from mnist_trials.cli.command import Command, near
from mnist_trials.errors import UsageError

COMMANDS: tuple[Command, ...] = (
    *project.COMMANDS,
    *import_.COMMANDS,
    *validate.COMMANDS,
    *compile.COMMANDS,
    *preview.COMMANDS,
    *running.COMMANDS,
    *life.COMMANDS,
    *queries.COMMANDS,
    *decisions.COMMANDS,
    *logs.COMMANDS,
    *evaluate.COMMANDS,
    *export.COMMANDS,
    *download.COMMANDS,
    *machine.COMMANDS,
)


def find(name: str) -> Command:
    """The command of that name.

    Raises:
        UsageError: there is none; the text has the nearest and all names.
    """
    by_name = {command.name: command for command in COMMANDS}
    command = by_name.get(name)
    if command is None:
        raise UsageError(f"there is no command '{name}'.{near(name, list(by_name))} Known: {', '.join(by_name)}.")
    return command


def overview() -> str:
    """The commands by group, a line each."""
    width = max(len(command.name) for command in COMMANDS)
    lines = []
    for group in dict.fromkeys(command.group for command in COMMANDS):
        lines += ["", f"{group}:"]
        lines += [f"  {c.name:<{width}}  {c.summary}" for c in COMMANDS if c.group == group]
    return "\n".join(lines[1:])
