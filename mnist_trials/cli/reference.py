"""docs/cli.md, made from the parsers: `python -m mnist_trials.cli.reference > docs/cli.md`."""

from __future__ import annotations

import argparse
from functools import partial

from mnist_trials.cli.command import PROGRAM, Command
from mnist_trials.cli.registry import COMMANDS

_BEGINNING = f"""# Command line

`{PROGRAM}`, or `python -m mnist_trials`. This page is made from the program itself: `make docs`.

`--home DIR` (variable `MNIST_TRIALS_HOME`, default `~/.mnist-trials`) is where the store, the logs and, if a config
does not say otherwise, the checkpoints lie. It and `--json` are taken before and after the command's name.

With `--json` a command prints exactly one JSON document on stdout, and everything else on stderr. The document is
strict JSON: a number that is not finite is `null`. A command that fails prints
`{{"error": ..., "type": ..., "exit_status": ...}}`, with `"problems"` (each with `message`, `source`, `line`, `column`)
where a config has mistakes.

`EXP` is the id of an experiment, such as `3`. `TRIAL` is an experiment and one of its trials, such as `3.1`; the
experiment alone will do where it has one trial. `CHECKPOINT` is the id of a checkpoint, or the beginning of one that no
other has, or its folder.

| exit status | meaning |
| --- | --- |
| 0 | done |
| 1 | an experiment or trial ended in error |
| 2 | bad usage or an invalid config; nothing was started or stored |
| 3 | cancelled or killed by a person |
| 130 | interrupted or paused: state is saved, `{PROGRAM} activate EXP` goes on |

`MNIST_TRIALS_DEBUG=1` shows the traceback of every error. Without it, the traceback of a mistake in {PROGRAM} itself is
written to `errors/` under the home.
"""


def render() -> str:
    """The whole page."""
    parts = [_BEGINNING]
    for group in dict.fromkeys(command.group for command in COMMANDS):
        parts.append(f"## {group}\n")
        parts += [_section(command) for command in COMMANDS if command.group == group]
    return "\n".join(parts)


def _section(command: Command) -> str:
    parser = command.parser()
    parser.formatter_class = partial(argparse.HelpFormatter, width=100)
    return f"### {command.name}\n\n```text\n{parser.format_help()}```\n"


if __name__ == "__main__":
    print(render(), end="")
