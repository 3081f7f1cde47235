"""`mnist-trials`: reads the arguments, calls the command, and has what went wrong told in a person's words."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from mnist_trials import __version__
from mnist_trials.cli import failures, registry
from mnist_trials.cli.command import PROGRAM, ArgumentParser, Command, Invocation, add_global_options
from mnist_trials.cli.screen import Screen, discard, mend_streams
from mnist_trials.errors import MnistTrialsError, UsageError
from mnist_trials.experiment.home import resolve_home


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status.

    0 done; 1 an experiment or trial ended in error; 2 bad usage or invalid config; 3 cancelled or killed by a person;
    130 interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    mend_streams()
    screen = Screen(json="--json" in arguments)
    home = resolve_home(None)
    try:
        command, namespace = parse(arguments)
        screen.json = namespace.json
        home = resolve_home(namespace.home)
        status = command.run(Invocation(namespace, screen, home))
        sys.stdout.flush()
    except BrokenPipeError:  # who read our output has seen enough
        discard(sys.stdout)
        return 0
    except SystemExit as end:  # argparse ends --help and --version so
        return int(end.code or 0)
    except KeyboardInterrupt:
        return failures.tell_interrupt(screen)
    except MnistTrialsError as error:
        return failures.tell(error, screen)
    except Exception as error:
        return failures.tell_bug(error, arguments, screen, home)
    return status


def parse(arguments: Sequence[str]) -> tuple[Command, argparse.Namespace]:
    """The command that `arguments` call and what they give it.

    Raises:
        UsageError: they call none, or not as it is to be called.
    """
    namespace = argparse.Namespace(home=None, json=False)
    top = top_parser()
    if not arguments:
        raise UsageError(f"which command?\n\n{top.format_help().strip()}")
    top.parse_args(arguments, namespace)
    command = registry.find(namespace.command)
    if namespace.json and not command.json:
        raise UsageError(f"'{command.name}' has no --json")
    command.parser().read(namespace.arguments, namespace)
    return command, namespace


def top_parser() -> ArgumentParser:
    """The parser of what stands before the command's name."""
    parser = ArgumentParser(
        prog=PROGRAM,
        usage="%(prog)s [--home DIR] [--json] COMMAND ...",
        description="Train PyTorch trials, alone or in a search, and lose nothing.",
        epilog=f"{registry.overview()}\n\n`{PROGRAM} COMMAND --help` says more of one.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_global_options(parser, json=True)
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    parser.add_argument("command", help=argparse.SUPPRESS)
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser
