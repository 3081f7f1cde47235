"""What a command is, and how its arguments are read."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, final

from typing_extensions import override

from mnist_trials.cli.screen import Screen
from mnist_trials.errors import UsageError

PROGRAM = "mnist-trials"


@final
@dataclass(frozen=True, slots=True)
class Invocation:
    """One call of a command."""

    arguments: argparse.Namespace
    screen: Screen
    home: Path  # where the store lies


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command. `run` returns the exit status; what it raises is told to the person by `main`."""

    name: str
    group: str
    summary: str
    run: Callable[[Invocation], int]
    configure: Callable[[argparse.ArgumentParser], None] | None = None
    description: str = ""  # what --help says besides the summary
    json: bool = True  # whether --json means something

    def parser(self) -> ArgumentParser:
        """The parser of the command's own arguments, the global options included."""
        parser = ArgumentParser(
            prog=f"{PROGRAM} {self.name}",
            description=f"{_sentence(self.summary)} {self.description}".strip(),
            allow_abbrev=False,
        )
        if self.configure is not None:
            self.configure(parser)
        add_global_options(parser, json=self.json)
        return parser


@final
class ArgumentParser(argparse.ArgumentParser):
    """Tells mistakes by raising, so that they are shown as all others are."""

    @override
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}\n{self.format_usage().strip()}\n`{self.prog} --help` says more.")

    def read(self, arguments: Sequence[str], namespace: argparse.Namespace) -> None:
        """Parse `arguments` into `namespace`.

        Raises:
            UsageError: they are not what the parser takes.
        """
        _, unknown = self.parse_known_args(arguments, namespace)
        if unknown:
            self.error(self._unknown(unknown))

    def _unknown(self, arguments: Sequence[str]) -> str:
        first = arguments[0]
        if not first.startswith("-"):
            return f"one argument too many: {first!r}"
        known = [option for action in self._actions for option in action.option_strings if option.startswith("--")]
        return f"there is no option '{first.partition('=')[0]}'.{near(first.partition('=')[0], known)}"


def add_global_options(parser: argparse.ArgumentParser, *, json: bool) -> None:
    """`--home` and `--json`, taken before and after the command's name; unset where they are not given."""
    parser.add_argument(
        "--home",
        metavar="DIR",
        default=argparse.SUPPRESS,
        help="where the store, logs and checkpoints lie (variable MNIST_TRIALS_HOME; default ~/.mnist-trials)",
    )
    if json:
        parser.add_argument(
            "--json",
            action="store_true",
            default=argparse.SUPPRESS,
            help="print one JSON document on stdout and everything else on stderr",
        )


def near(given: str, known: Sequence[str]) -> str:
    """`" Did you mean 'x'?"` where one of `known` is close to `given`, else nothing."""
    found = difflib.get_close_matches(given, known, n=1)
    return f" Did you mean '{found[0]}'?" if found else ""


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
