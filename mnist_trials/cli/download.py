"""`download`: a whole checkpoint from its storage into a folder."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Final, final

from mnist_trials.cli.checkpoint_lookup import WHICH
from mnist_trials.cli.command import Command, Invocation
from mnist_trials.cli.export import require_empty

_LARGE: Final = 32 * 2**20  # bytes; less is here before anybody asks
_LINES: Final = 10  # of progress, at most


@final
class DownloadProgress:
    """Says how much of a large checkpoint has come: a line for each tenth of it."""

    def __init__(self, say: Callable[[str], object]) -> None:
        self._say = say
        self._told = 0

    def __call__(self, done: int, total: int) -> None:
        """`done` of `total` bytes are here."""
        tenths = _LINES * done // max(total, 1)
        if total >= _LARGE and tenths > self._told:
            self._told = tenths
            self._say(f"  {100 * tenths // _LINES:3} % of {total / 1e6:,.0f} MB")


def _download(call: Invocation) -> int:
    from mnist_trials.experiment.bringing import download
    from mnist_trials.experiment.named_checkpoints import find

    target = Path(call.arguments.to)
    require_empty(target)
    named = find(call.home, call.arguments.checkpoint)
    manifest = download(call.home, named, target, DownloadProgress(call.screen.say))
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    if call.screen.json:
        call.screen.document(
            {
                "checkpoint": named.uuid,
                "directory": str(target.absolute()),
                "bytes": size,
                "experiment_id": manifest.experiment_id,
                "trial_id": manifest.trial_id,
                "batches": manifest.batches,
            }
        )
    call.screen.say(f"Wrote the checkpoint {named.uuid} into {target}: {size / 1e6:.1f} MB, undamaged.")
    return 0


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help=WHICH)
    parser.add_argument("--to", metavar="DIR", required=True, help="an empty folder, or one that is not there yet")


COMMANDS = (
    Command(
        name="download",
        group="Checkpoints",
        summary="a whole checkpoint, checked, from its storage into a folder",
        description="The folder can be named wherever a CHECKPOINT is asked for.",
        run=_download,
        configure=_arguments,
    ),
)
