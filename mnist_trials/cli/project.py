"""`init`: a small project to start from."""

from __future__ import annotations

import argparse
import shlex
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from mnist_trials.cli.command import Command, Invocation
from mnist_trials.cli.report import hint
from mnist_trials.errors import UsageError


def _init(call: Invocation) -> int:
    directory = Path(call.arguments.directory)
    sources = template_files()
    try:
        written = _write(directory, sources)
    except OSError as error:
        raise UsageError(f"{error.filename or directory}: {error.strerror}") from error
    if call.screen.json:
        call.screen.document({"directory": str(directory.absolute()), "files": [path.name for path in written]})
        return 0
    call.screen.say(f"Wrote {', '.join(path.name for path in written)} into {directory}. Try:")
    call.screen.say(f"  cd {shlex.quote(str(directory))}")
    call.screen.say(f"  {hint(call, 'create const.yaml')}")
    call.screen.say("  python train.py")
    call.screen.say(f"  {hint(call, 'preview-search adaptive.yaml')}")
    return 0


def template_files() -> list[Traversable]:
    """The files that `init` writes, by name."""
    folder = resources.files("mnist_trials.cli") / "templates"
    return sorted(
        (entry for entry in folder.iterdir() if entry.is_file() and entry.name != "__init__.py"),
        key=lambda entry: entry.name,
    )


def _write(directory: Path, sources: list[Traversable]) -> list[Path]:
    targets = [directory / source.name for source in sources]
    if taken := [target.name for target in targets if target.exists()]:
        raise UsageError(f"{directory} has {', '.join(taken)} already; nothing was written. Choose another folder.")
    directory.mkdir(parents=True, exist_ok=True)
    for source, target in zip(sources, targets, strict=True):
        with target.open("xb") as file:
            file.write(source.read_bytes())
    return targets


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", help="the folder to write into; made where it is not there")


COMMANDS = (
    Command(
        name="init",
        group="Start",
        summary="write a small project: trial.py, train.py and configs",
        description=(
            "Each config runs as it is, and so does train.py; distributed.yaml needs a machine with two cores or two "
            "devices."
        ),
        run=_init,
        configure=_arguments,
    ),
)
