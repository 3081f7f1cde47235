"""Finding the experiment or trial that a person named."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING

from mnist_trials.cli.command import Invocation
from mnist_trials.errors import UsageError

if TYPE_CHECKING:
    from mnist_trials.store import Reader
    from mnist_trials.store.rows import TrialRow


def reading(call: Invocation) -> Reader:
    """The store, read-only, for a `with` block.

    Raises:
        StoreError: it cannot be used.
    """
    from mnist_trials.store import open_reader

    return open_reader(call.home)


def add_experiment(parser: argparse.ArgumentParser) -> None:
    """The argument EXP."""
    parser.add_argument("experiment", metavar="EXP", type=experiment_id, help="the experiment's id")


def add_trial(parser: argparse.ArgumentParser) -> None:
    """The argument TRIAL."""
    parser.add_argument(
        "trial", metavar="TRIAL", type=trial_name, help="EXP.TRIAL such as 3.1; EXP alone where it has one trial"
    )


def experiment_id(text: str) -> int:
    """The id in `text`, for argparse."""
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise argparse.ArgumentTypeError(f"an experiment is named by its id, such as 3, not {text!r}")
    return int(text)


def trial_name(text: str) -> tuple[int, int | None]:
    """The ids of experiment and trial in `text`, for argparse; the second is None where it is left out."""
    if not re.fullmatch(r"[0-9]{1,18}(\.[0-9]{1,18})?", text):
        raise argparse.ArgumentTypeError(
            f"a trial is named by its experiment's id and its own, such as 3.1, not {text!r}"
        )
    experiment, _, trial = text.partition(".")
    return int(experiment), int(trial) if trial else None


def find_trial(reader: Reader, name: tuple[int, int | None]) -> TrialRow:
    """The trial of that name.

    Raises:
        UsageError: there is none, or the experiment has several and none was named; the text has those that exist.
    """
    experiment, wanted = name
    if wanted is not None:
        return reader.trial(experiment, wanted)
    rows = reader.trials(experiment)
    if len(rows) == 1:
        return rows[0]
    if not rows:
        raise UsageError(f"Experiment {experiment} has no trials yet.")
    raise UsageError(
        f"Experiment {experiment} has {len(rows)} trials; name one of them, from {experiment}.1 to "
        f"{experiment}.{len(rows)}."
    )
