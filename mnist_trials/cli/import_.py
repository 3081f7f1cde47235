"""`import`: a config made of a reference's parameter file."""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from mnist_trials.cli.command import Command, Invocation
from mnist_trials.cli.report import hint
from mnist_trials.errors import UsageError

if TYPE_CHECKING:
    from mnist_trials.mnist.params import Translation


def _import(call: Invocation) -> int:
    from mnist_trials.mnist.params import translate

    source, target = Path(call.arguments.params), Path(call.arguments.to)
    made = translate(source)
    for warning in made.warnings:
        call.screen.warn(f"warning: {warning}")
    _write(target, source, made)
    if call.screen.json:
        call.screen.document({"reference": made.reference, "config": made.config, "warnings": made.warnings})
        return 0
    call.screen.say(f"Wrote {target}, which means what {source} means for {made.reference}. Try:")
    call.screen.say(f"  {hint(call, f'validate {shlex.quote(str(target))}')}")
    call.screen.say(f"  {hint(call, f'create {shlex.quote(str(target))}')}")
    return 0


def _write(target: Path, source: Path, made: Translation) -> None:
    import yaml

    plain = json.loads(json.dumps(made.config))  # nothing is shared, which YAML would write as an alias
    text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
    try:
        with target.open("x", encoding="utf-8") as file:
            file.write(f"# Made of {source.name}, the parameters of {made.reference}.\n{text}")
    except FileExistsError:
        raise UsageError(f"{target} is there already; nothing was written. Choose another name.") from None
    except OSError as error:
        raise UsageError(f"{error.filename or target}: {error.strerror}") from error


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("params", metavar="PARAMS", help="a parameter file of FC-MNIST or of torch MNIST, in YAML")
    parser.add_argument("--to", metavar="CONFIG", required=True, help="the config to write; it must not be there yet")


COMMANDS = (
    Command(
        name="import",
        group="Start",
        summary="make a config of the parameter file of a reference",
        description=(
            "Every key becomes a key of the config, or is named in a warning as meaning nothing here, or as given in "
            "another way; one that is not known, or asks for what cannot be had here, is a mistake, and nothing is "
            "written then. Nothing is run."
        ),
        run=_import,
        configure=_arguments,
    ),
)
